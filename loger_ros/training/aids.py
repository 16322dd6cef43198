"""Two training aids, absent at inference: attention follows true matches, tokens predict their flow.

Without them a small network stays at "no motion": the gradient of a pose tells nothing until frames match.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from loger_ros.model import LoGeR
from loger_ros.model.attention import Attention, KeyValues
from loger_ros.training.batches import Batch

_OUTSIDE = 0.4  # tokens beyond the border that still count as seen
_OCCLUDED = (0.15, 0.02)  # relative and absolute depth difference beyond which a point is hidden
_LARGEST_FLOW = 4.0  # tokens


class Matches(NamedTuple):
    """Where the patches of source frames are in their target frames."""

    where: Tensor  # (B, P, patches, 2) x, y in tokens; the middle pixel of the first token is (0, 0)
    seen: Tensor  # (B, P, patches) bool
    source: tuple[int, ...]  # P frames of the chunk
    target: tuple[int, ...]
    grid: tuple[int, int]  # rows, columns


def match(batch: Batch, patch: int) -> Matches:
    """Match every frame with the first one, and the first with the last."""
    frames = batch.depth.shape[1]
    source, target = tuple(range(frames)), (frames - 1, *(0 for _ in range(frames - 1)))
    height, width = batch.depth.shape[-2:]
    rows, columns = height // patch, width // patch
    y = torch.arange(rows, device=batch.depth.device) * patch + patch // 2
    x = torch.arange(columns, device=batch.depth.device) * patch + patch // 2
    depth = batch.depth[:, :, y[:, None], x].flatten(2)  # (B, N, patches)
    slopes = batch.slopes()[:, y[:, None], x].flatten(1, 2)  # (B, patches, 2)

    near = depth[:, list(source)]
    known = near.isfinite()
    near = torch.where(known, near, 1.0)[..., None]
    points = torch.cat([slopes[:, None] * near, near], -1)  # (B, P, patches, 3)
    T_target_source = torch.linalg.inv(batch.poses[:, list(target)]) @ batch.poses[:, list(source)]
    moved = points @ T_target_source[..., :3, :3].mT + T_target_source[..., None, :3, 3]
    front = moved[..., 2] > 0.05
    z = moved[..., 2].clamp_min(0.05)
    fx, fy, cx, cy = (value.view(-1, 1, 1) for value in batch.intrinsics.unbind(-1))
    u, v = moved[..., 0] / z * fx + cx, moved[..., 1] / z * fy + cy  # pixels

    column = u.round().long().clamp(0, width - 1)
    row = v.round().long().clamp(0, height - 1)
    there = batch.depth[:, list(target)].flatten(2).gather(2, row * width + column)
    visible = (z - there).abs() < _OCCLUDED[0] * z + _OCCLUDED[1]
    where = (torch.stack([u, v], -1) - patch // 2) / patch
    limit = where.new_tensor([columns - 1 + _OUTSIDE, rows - 1 + _OUTSIDE])
    inside = ((where > -_OUTSIDE) & (where < limit)).all(-1)
    return Matches(where, known & front & visible & inside, source, target, (rows, columns))


class Observed(NamedTuple):
    q: Tensor  # (B, heads, L, d)
    k: Tensor


@contextmanager
def observed(model: LoGeR, heads: int) -> Iterator[list[Observed]]:
    """Collects queries and keys of the first heads of every block between frames."""
    seen: list[Observed] = []
    watched = [cast(Attention, block.attn) for block in model.decoder[1::2]]

    def watch(attention: Attention) -> None:
        attend = attention.attend

        def recording(q: Tensor, own: KeyValues, **options: object) -> Tensor:
            seen.append(Observed(q[:, :heads], own.keys[:, :heads]))
            return attend(q, own, **options)  # type: ignore[arg-type]

        attention.attend = recording  # type: ignore[method-assign]

    for attention in watched:
        watch(attention)
    try:
        yield seen
    finally:
        for attention in watched:
            del attention.attend


def attention_loss(seen: list[Observed], matches: Matches, frames: int) -> Tensor:
    """Cross-entropy of attention over all keys against the bilinear place of the match, minus its entropy."""
    rows, columns = matches.grid
    patches = rows * columns
    tokens = seen[0].q.shape[2] // frames
    specials = tokens - patches
    x = matches.where[..., 0].clamp(0, columns - 1 - 1e-4)
    y = matches.where[..., 1].clamp(0, rows - 1 - 1e-4)
    left, top = x.floor(), y.floor()
    right_share, low_share = x - left, y - top
    base = torch.tensor(matches.target, device=x.device).view(1, -1, 1) * tokens + specials
    index, weight = [], []
    for down in (0, 1):
        for right in (0, 1):
            share = (right_share if right else 1 - right_share) * (low_share if down else 1 - low_share)
            row = (top + down).clamp(max=rows - 1)
            column = (left + right).clamp(max=columns - 1)
            index.append(base + (row * columns + column).long())
            weight.append(share)
    keys = torch.stack(index, -1).flatten(1, 2)  # (B, P * patches, 4)
    shares = torch.stack(weight, -1).flatten(1, 2)
    entropy = -(shares * shares.clamp_min(1e-9).log()).sum(-1)
    counted = matches.seen.flatten(1).float()

    total = torch.zeros((), device=x.device)
    for q, k in seen:
        _, heads, _, width = q.shape
        asking = q.float().unflatten(2, (frames, tokens))[:, :, list(matches.source), specials:].flatten(2, 3)
        asking = asking / width**0.5
        wanted = keys.flatten(1)[:, None, :, None].expand(-1, heads, -1, width)
        around = k.float().gather(2, wanted).unflatten(2, keys.shape[1:])  # (B, heads, P * patches, 4, d)
        right_key = (around * shares[:, None, ..., None]).sum(3)
        cross = log_sum_exp(asking, k.float()) - (asking * right_key).sum(-1) - entropy[:, None]
        total = total + (cross * counted[:, None]).sum() / (counted.sum().clamp_min(1) * heads)
    return total / len(seen)


class _LogSumExp(torch.autograd.Function):
    """One head at a time, and nothing kept: the scores of all are many times as large as a CPU cache."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        sums = torch.stack([(asking @ key.mT).logsumexp(-1) for asking, key in zip(q, k, strict=True)])
        ctx.save_for_backward(q, k, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        q, k, sums = ctx.saved_tensors
        for_q, for_k = torch.empty_like(q), torch.empty_like(k)
        for i, gradient in enumerate(gradients[0]):
            shares = (q[i] @ k[i].mT).sub_(sums[i, :, None]).exp_()
            for_q[i] = shares @ k[i] * gradient[:, None]
            for_k[i] = shares.mT @ (q[i] * gradient[:, None])
        return for_q, for_k


def log_sum_exp(q: Tensor, k: Tensor) -> Tensor:
    """(B, heads, n): over the products of each of q (B, heads, n, d) with all of k (B, heads, m, d)."""
    if q.device.type != "cpu":  # on a GPU, many small steps would take longer
        return (q @ k.mT).logsumexp(-1)
    sums: Tensor = _LogSumExp.apply(q.flatten(0, 1), k.flatten(0, 1))
    return sums.unflatten(0, q.shape[:2])


class FlowHead(nn.Module):
    """Predicts where each token of a frame is in its partner frame, from decoder tokens; starts at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def loss(self, decoded: Tensor, matches: Matches) -> Tensor:
        """decoded (B, N, patches, 2C)."""
        rows, columns = matches.grid
        y, x = torch.meshgrid(
            torch.arange(rows, device=decoded.device),
            torch.arange(columns, device=decoded.device),
            indexing="ij",
        )
        flow = matches.where - torch.stack([x, y], -1).flatten(0, 1)  # (B, P, patches, 2)
        counted = matches.seen & (flow.abs().amax(-1) < _LARGEST_FLOW)
        error = (self.linear(decoded.float())[:, list(matches.source)] - flow).norm(dim=-1)
        return (error * counted).sum() / counted.sum().clamp_min(1)
