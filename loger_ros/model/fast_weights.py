"""Fast weights: a small gated MLP per head that is trained at test time, one step per chunk.

A chunk is read with the incoming weights; what they learn from it serves the chunks after it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.layers import Linear, RMSNorm

_LEARNING_RATE_BIAS = math.log(math.expm1(0.01))  # softplus of it is 0.01
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_EPS = 1e-5
_AT_ONCE = 1 << 25  # most numbers in an intermediate tensor


class FastWeights(NamedTuple):
    """State of one layer, heads folded into the batch: o = (SiLU(q w0) · (q w2)) w1."""

    w0: Tensor  # (B * heads, D, E)
    w1: Tensor  # (B * heads, E, D)
    w2: Tensor  # (B * heads, D, E)


class FastWeightLayer(nn.Module):
    def __init__(
        self,
        dim: int,
        head_dim: int,
        expansion: int,
        *,
        pre_norm: bool = False,
        newton_schulz_steps: int = 5,
        newton_schulz_dtype: str = "float32",
        update_steps: int = 1,
        momentum: bool = False,
    ) -> None:
        super().__init__()
        heads, inner = dim // head_dim, head_dim * expansion
        self.heads = heads
        self.newton_schulz_steps = newton_schulz_steps
        self.newton_schulz_dtype = torch.bfloat16 if newton_schulz_dtype == "bfloat16" else None
        self.update_steps = update_steps
        self.momentum = momentum
        self.w0 = nn.Parameter(torch.randn(heads, head_dim, inner) / math.sqrt(head_dim))
        self.w1 = nn.Parameter(torch.randn(heads, inner, head_dim) / math.sqrt(inner))
        self.w2 = nn.Parameter(torch.randn(heads, head_dim, inner) / math.sqrt(head_dim))
        self.to_qkv = Linear(dim, 3 * dim, bias=False)
        self.c_proj = Linear(dim, dim, bias=False)
        self.lr_fc = Linear(dim, 3 * heads + int(momentum))
        self.o_norm = RMSNorm(head_dim, _EPS)
        self.pre_norm = RMSNorm(dim, _EPS) if pre_norm else nn.Identity()

    def initial(self, batch: int) -> FastWeights:
        return FastWeights(*(w.repeat(batch, 1, 1) for w in (self.w0, self.w1, self.w2)))

    def forward(
        self, x: Tensor, weights: FastWeights | None, update: bool = True
    ) -> tuple[Tensor, FastWeights | None]:
        """Return what the incoming weights recall for x, both (B, N, S, C), and those for the next chunk.

        Without ``update`` the incoming weights are returned unchanged.
        """
        current = self.initial(x.shape[0]) if weights is None else weights
        q, k, v, inputs = self._project(x.flatten(1, 2))
        recalled = self._recall(q, current).view(x.shape)
        del q  # makes room for the update
        return recalled, self._update(k, v, inputs, current) if update else weights

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, L, C) → q, k, v (B * heads, L, D), and their input: x, normalised if ``pre_norm`` was set."""
        inputs = self.pre_norm(x)
        qkv = F.silu(self.to_qkv(inputs)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, h, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)  # (B * h, L, D)
        return _normalised(q, self.w0.dtype), _normalised(k, self.w0.dtype), v, inputs

    def _recall(self, q: Tensor, weights: FastWeights) -> Tensor:
        half = self.to_qkv.weight.dtype
        w0, w1, w2 = (w.to(half) for w in weights)
        tokens = _share(q.shape[1], w0.shape[0] * w0.shape[2])
        o = torch.cat([(F.silu(some @ w0) * (some @ w2)) @ w1 for some in q.to(half).split(tokens, 1)], 1)
        o = self.o_norm(o)  # (B * h, L, D)
        o = o.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)  # (B, L, C)
        return self.c_proj(o)

    def _update(self, keys: Tensor, v: Tensor, inputs: Tensor, entry: FastWeights) -> FastWeights:
        """Take ``update_steps`` ascent steps on the agreement of recalled and seen values.

        Gradients are orthogonalised, so the rates only weight the tokens relative to each other. Columns
        keep their incoming norm, so that the weights cannot blow up over thousands of chunks.
        """
        half = self.to_qkv.weight.dtype
        rates = self.lr_fc(inputs).to(self.w0.dtype)  # (B, L, 3h [+ 1])
        if self.momentum:
            rates, momentum = rates[..., :-1], rates[..., -1:].sigmoid().mean(1)  # (B, 1)
            momentum = momentum.repeat_interleave(self.heads, 0)[..., None]
        eta = F.softplus(rates + _LEARNING_RATE_BIAS).unflatten(-1, (3, self.heads))  # (B, L, 3, h)
        eta0, eta1, eta2 = eta.permute(2, 0, 3, 1).flatten(1, 2)[..., None].unbind(0)  # (B * h, L, 1)

        k, seen0, seen2 = keys.to(half), (eta0 * keys).to(half), (eta2 * keys).to(half)

        def gradients_of(w0: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
            """Return those of some columns, all as (B * h, D, E), so that they share the products below."""
            g, u = k @ w0, k @ w2  # (B * h, L, E)
            gate = F.silu(g)
            read = (eta1 * (gate * u)).to(half)
            slope = torch.sigmoid(g)
            slope = slope * (1 + g * (1 - slope))
            dm = v @ w1.mT
            return torch.stack([seen0.mT @ (dm * u * slope), v.mT @ read, seen2.mT @ (dm * gate)])

        columns = _share(entry.w0.shape[2], k.shape[0] * k.shape[1])
        norms = [w.norm(dim=1, keepdim=True) for w in entry]

        weights, velocity = entry, None
        for _ in range(self.update_steps):
            parts = zip(
                entry.w0.to(half).split(columns, 2),
                weights.w1.to(half).split(columns, 1),
                entry.w2.to(half).split(columns, 2),
                strict=True,
            )
            gradients = torch.cat([gradients_of(*part) for part in parts], -1)
            step = newton_schulz(gradients, self.newton_schulz_steps, self.newton_schulz_dtype)
            if self.momentum:
                step = velocity = step if velocity is None else step + momentum * velocity
            moved = (weights.w0 + step[0], weights.w1 + step[1].mT, weights.w2 + step[2])
            weights = FastWeights(
                *(
                    w / (w.norm(dim=1, keepdim=True) + _EPS) * norm
                    for w, norm in zip(moved, norms, strict=True)
                )
            )
        return weights


def newton_schulz(gradients: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Pushes the singular values of (..., rows, columns) towards one. ``dtype`` None: at least float32."""
    wide = torch.promote_types(gradients.dtype, torch.float32)
    y = gradients.to(dtype or wide)
    tall = y.shape[-2] > y.shape[-1]
    if tall:
        y = y.mT
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(steps):
        gram = y @ y.mT
        y = a * y + (b * gram + (c * gram) @ gram) @ y
    return y.mT if tall else y


def _share(length: int, others: int) -> int:
    """Return how many entries of a dimension to process at once, if each makes ``others`` numbers.

    Processed at once, a chunk of the published size makes ten tensors of 340 MB here: the peak of the
    network's memory. Multiples of 64 keep the parts aligned.
    """
    parts = -(-length * others // _AT_ONCE)
    return -(-length // parts // 64) * 64


def _normalised(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    return x / (x.norm(dim=-1, keepdim=True) + _EPS)
