"""The objective: points, where they are in the world, relative poses within and across chunks, confidence.

Everything is compared in metres. A network that sees the ground from a robot must use the height of its
camera as the unit; elsewhere, and with ``metric`` off, one free scale per sample is removed first. It is the
same for all chunks of the sample: the network must remember its unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from loger_ros.training.batches import Batch
from loger_ros.training.recipe import Stage
from loger_ros.types import Prediction

_FARTHEST = 60.0  # metres; depth beyond is not learnt
_GOOD = 0.1  # relative error of a point below which it deserves confidence
_SHORT = 0.05  # metres; the length of a shorter path hardly matters
_EXACT = 0.005  # relative error of a length below which it counts quadratically
_STEADIER = 8.0  # the softness of one step, divided by that of the mean of many steps


@dataclass(frozen=True, eq=False)
class Report:
    """The losses of one step on one rank, not yet copied to the CPU."""

    loss: Tensor
    parts: dict[str, Tensor]


class _View(NamedTuple):
    """A prediction that has all outputs."""

    points: Tensor
    confidence: Tensor
    poses: Tensor


def _view(prediction: Prediction) -> _View:
    points, confidence, poses = prediction.local_points, prediction.confidence, prediction.camera_poses
    if points is None or confidence is None or poses is None:
        raise ValueError("training needs all outputs of the model: points, confidence and poses")
    return _View(points.float(), confidence.float(), poses.float())


def objective(predictions: list[Prediction], batches: list[Batch], stage: Stage, metric: bool) -> Report:
    """predictions and batches: the chunks of the samples, in order."""
    truths = [true_points(batch) for batch in batches]
    views = [_view(prediction) for prediction in predictions]
    scale = sample_scale(views, truths)
    if metric:
        unit = batches[0].unit
        scale = torch.where(unit > 0, unit, scale)
    points, confidence = _point_losses(views, truths, scale)
    poses = [_scaled(view.poses, scale) for view in views]
    per_chunk = [pose_loss(pose, batch.poses, stage) for pose, batch in zip(poses, batches, strict=True)]
    pose = torch.stack(per_chunk).mean()
    loss = points + pose + stage.confidence_weight * confidence
    parts = {"points": points, "pose": pose, "confidence": confidence}
    if stage.chained_weight and len(poses) > 1:
        chained, true = chain(poses, stage.overlap), whole([batch.poses for batch in batches], stage.overlap)
        together = seen_together([pose.shape[1] for pose in poses], stage.overlap).to(true.device)
        parts["chained"] = pose_loss(chained, true, stage, but=together)
        loss = loss + stage.chained_weight * parts["chained"]
    if stage.global_weight:
        parts["global"] = global_points_loss(views, truths, poses, batches, scale, stage.overlap)
        loss = loss + stage.global_weight * parts["global"]
    if stage.length_weight:
        parts["length"] = length_loss(poses, batches)
        loss = loss + stage.length_weight * parts["length"]
    if stage.drift_weight:
        parts["drift"] = drift_loss(poses, batches, stage)
        loss = loss + stage.drift_weight * parts["drift"]
    with torch.no_grad():
        parts |= ratios(poses, batches)
    return Report(loss, {name: value.detach() for name, value in parts.items()})


def true_points(batch: Batch) -> Tensor:
    """(B, N, H, W, 3) in each frame's camera; not finite where there is nothing to learn."""
    depth = torch.where(batch.depth < _FARTHEST, batch.depth, torch.inf)[..., None]
    slopes = batch.slopes()[:, None].expand(*depth.shape[:-1], 2)
    return torch.cat([slopes * depth, depth], -1)


def sample_scale(views: list[_View], truths: list[Tensor]) -> Tensor:
    """(B,) true units per predicted unit: least squares over all chunks, weighted with 1 / depth²."""
    products = squares = torch.zeros((), device=truths[0].device)
    for view, truth in zip(views, truths, strict=True):
        valid = truth[..., 2].isfinite()
        weight = torch.where(valid, 1 / truth[..., 2].clamp_min(0.05), 0)[..., None]
        p = view.points * weight
        g = torch.where(valid[..., None], truth, 0) * weight
        products = products + (p * g).flatten(1).sum(1)
        squares = squares + (p * p).flatten(1).sum(1)
    return products / squares.clamp_min(1e-6)


def _point_losses(views: list[_View], truths: list[Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
    points, confidences = [], []
    for view, truth in zip(views, truths, strict=True):
        predicted = view.points * scale.view(-1, 1, 1, 1, 1)
        valid = truth[..., 2].isfinite()
        filled = torch.where(valid[..., None], truth, 1)
        relative = (predicted - filled).abs() / filled[..., 2:].clamp_min(0.05)  # (B, N, H, W, 3)
        share = valid.float().sum().clamp_min(1)
        points.append((relative.mean(-1) * valid).sum() / share)
        deserved = (relative.detach().norm(dim=-1) < _GOOD) & valid
        confidences.append(F.binary_cross_entropy_with_logits(view.confidence[..., 0], deserved.float()))
    return torch.stack(points).mean(), torch.stack(confidences).mean()


def global_points_loss(
    views: list[_View],
    truths: list[Tensor],
    poses: list[Tensor],
    batches: list[Batch],
    scale: Tensor,
    overlap: int,
) -> Tensor:
    """|error| / depth of points placed by the joined poses of the sample, seen from its first frame.

    poses: of the chunks, already in metres.
    """
    placed, true = chain(poses, overlap), whole([batch.poses for batch in batches], overlap)
    points = whole([view.points * scale.view(-1, 1, 1, 1, 1) for view in views], overlap)
    truth = whole(truths, overlap)
    valid = truth[..., 2].isfinite()
    filled = torch.where(valid[..., None], truth, 1)
    error = (_seen_from_first(placed, points) - _seen_from_first(true, filled)).abs().mean(-1)
    return (error / filled[..., 2].clamp_min(0.05) * valid).sum() / valid.sum().clamp_min(1)


def _seen_from_first(poses: Tensor, points: Tensor) -> Tensor:
    """(B, L, 4, 4) and (B, L, H, W, 3) in each frame's camera → in that of the first."""
    T_first_camera = _inverse(poses[:, :1]) @ poses
    moved = points.flatten(2, 3) @ T_first_camera[..., :3, :3].mT + T_first_camera[..., None, :3, 3]
    return moved.view(points.shape)


def pose_loss(predicted: Tensor, true: Tensor, stage: Stage, but: Tensor | None = None) -> Tensor:
    """The loss over all pairs of frames, weighted with 1 / frame distance. but (n, n): pairs left out."""
    rotation, translation = pose_errors(predicted, true)  # squared, (B, n, n)
    index = torch.arange(predicted.shape[1], device=predicted.device)
    gap = (index[:, None] - index).abs()
    weight = torch.where(gap > 0, 1 / gap.clamp_min(1), 0.0)
    if but is not None:
        weight = weight.masked_fill(but, 0.0)
    weight = weight / weight.sum().clamp_min(1e-6)  # a single frame has no pairs
    turn = _soft(rotation, stage.rotation_softness * torch.pi / 180)
    move = _soft(translation, stage.translation_softness)
    per_pair = stage.rotation_weight * turn + stage.translation_weight * move
    return (per_pair * weight).sum((1, 2)).mean()


def pose_errors(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Squared angles (radians, small) and squared distances of all relative poses, each (B, n, n)."""
    a, b = relative_poses(predicted), relative_poses(true)
    rotation = (a[..., :3, :3] - b[..., :3, :3]).square().sum((-1, -2)) / 2
    translation = (a[..., :3, 3] - b[..., :3, 3]).square().sum(-1)
    return rotation, translation


def length_loss(predicted: list[Tensor], batches: list[Batch]) -> Tensor:
    """Return how much too long or too short the paths of samples with a known unit are, as a share of them.

    One error per sample, over all its chunks: noise from frame to frame averages out, a wrong unit does not.
    """
    known = (batches[0].unit > 0).float()
    excess = way = torch.zeros_like(known)
    for poses, batch in zip(predicted, batches, strict=True):
        step, true_step = (_steps(p)[..., :3, 3] for p in (poses, batch.poses))
        distance = true_step.norm(dim=-1)
        along = (step * true_step).sum(-1) / distance.clamp_min(1e-6)
        excess = excess + (along - distance).sum(1)
        way = way + distance.sum(1)
    error = _soft((excess / (way + _SHORT)).square(), _EXACT)
    return (error * known).sum() / known.sum().clamp_min(1)


def drift_loss(predicted: list[Tensor], batches: list[Batch], stage: Stage) -> Tensor:
    """Return the loss of the mean error vector of a sample's steps: what all steps share adds up over a path.

    It is small compared with the noise of single steps, but the noise averages out.
    """
    step, true = (
        torch.cat([_steps(poses) for poses in chunks], 1)
        for chunks in (predicted, [batch.poses for batch in batches])
    )
    error = step[..., :3, :3].mT @ true[..., :3, :3]
    turns = ((error - error.mT) / 2)[..., (2, 0, 1), (1, 2, 0)]  # (B, L - 1, 3) radians, small
    turn = turns.mean(1).square().sum(-1)
    move = (step - true)[..., :3, 3].mean(1).square().sum(-1)
    turned = _soft(turn, stage.rotation_softness * torch.pi / 180 / _STEADIER)
    moved = _soft(move, stage.translation_softness / _STEADIER)
    return (stage.rotation_weight * turned + stage.translation_weight * moved).mean()


def relative_poses(poses: Tensor) -> Tensor:
    """(B, n, 4, 4) → (B, n, n, 4, 4): [i, j] takes points of camera j to camera i."""
    rotation, position = poses[..., :3, :3], poses[..., :3, 3]
    back = rotation.mT
    turn = back[:, :, None] @ rotation[:, None]
    move = back[:, :, None] @ (position[:, None] - position[:, :, None])[..., None]
    upper = torch.cat([turn, move], -1)
    last = torch.eye(4, device=poses.device, dtype=poses.dtype)[3].expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], -2)


def chain(poses: list[Tensor], overlap: int) -> Tensor:
    """Join chunks rigidly at the first frame they share, to (B, L, 4, 4); shared frames are the later's."""
    if overlap < 1:
        raise ValueError("chunks without shared frames cannot be joined")
    joined, placement = [], None
    for k, chunk in enumerate(poses):
        placed = chunk if placement is None else placement @ chunk
        if k + 1 < len(poses):
            placement = placed[:, -overlap, None] @ _inverse(poses[k + 1][:, :1])
            placed = placed[:, : placed.shape[1] - overlap]
        joined.append(placed)
    return torch.cat(joined, 1)


def whole(poses: list[Tensor], overlap: int) -> Tensor:
    """Join what belongs to the same frames, such as true poses."""
    return torch.cat([p[:, : p.shape[1] - overlap] for p in poses[:-1]] + [poses[-1]], 1)


def seen_together(counts: list[int], overlap: int) -> Tensor:
    """Return (L, L), whether two frames of a sample share a chunk. counts: frames of each chunk."""
    starts = [0]
    for count in counts[:-1]:
        starts.append(starts[-1] + count - overlap)
    length = starts[-1] + counts[-1]
    together = torch.zeros(length, length, dtype=torch.bool)
    for start, count in zip(starts, counts, strict=True):
        together[start : start + count, start : start + count] = True
    return together


def ratios(poses: list[Tensor], batches: list[Batch]) -> dict[str, Tensor]:
    """Return errors from frame to frame relative to those of a network that sees no motion: 1 is blind.

    Translation is also compared with the mean motion of the batch.
    """
    errors, motions = [], []
    for pose, batch in zip(poses, batches, strict=True):
        if pose.shape[1] < 2:
            continue
        predicted, true = (_steps(p).flatten(0, 1) for p in (pose, batch.poses))
        errors.append(torch.cat([predicted, true], -1))
        motions.append(true)
    both, true = torch.cat(errors), torch.cat(motions)  # (K, 4, 8), (K, 4, 4)
    predicted = both[..., :4]

    def angle(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b)[..., :3, :3].square().sum((-1, -2)) / 2).sqrt().mean()

    still = torch.eye(4, device=true.device).expand_as(true)
    moved, seen = true[..., :3, 3], predicted[..., :3, 3]
    error = (seen - moved).norm(dim=-1).mean()
    return {
        "rotation °": angle(predicted, true) * 180 / torch.pi,
        "rotation / still": angle(predicted, true) / angle(still, true).clamp_min(1e-6),
        "translation": error,
        "translation / still": error / moved.norm(dim=-1).mean().clamp_min(1e-6),
        "translation / mean": error / (moved - moved.mean(0)).norm(dim=-1).mean().clamp_min(1e-6),
    }


def _steps(poses: Tensor) -> Tensor:
    """(B, n, 4, 4) → (B, n - 1, 4, 4) from each frame to the next."""
    return _inverse(poses[:, :-1]) @ poses[:, 1:]


def _inverse(poses: Tensor) -> Tensor:
    back = poses[..., :3, :3].mT
    upper = torch.cat([back, -back @ poses[..., :3, 3:]], -1)
    return torch.cat([upper, poses[..., 3:, :]], -2)


def _scaled(poses: Tensor, scale: Tensor) -> Tensor:
    return torch.cat([poses[..., :3], poses[..., 3:] * _column(scale)], -1)


def _column(scale: Tensor) -> Tensor:
    """(B,) → (B, 1, 4, 1): scales a translation and keeps the 1 below it."""
    column = torch.stack([scale, scale, scale, torch.ones_like(scale)], -1)
    return column.view(-1, 1, 4, 1)


def _soft(squared: Tensor, softness: float) -> Tensor:
    """Approximately the error if it is large, its square if it is small (Charbonnier)."""
    return (squared + softness**2).sqrt() - softness
