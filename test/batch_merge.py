"""The published windows and merges over a whole clip at once: what a stream must equal."""

from __future__ import annotations

import torch

from loger_ros.types import Prediction


def windows(frames, size, overlap):
    if size >= frames:
        return [(0, frames)]
    found = []
    for start in range(0, frames, max(size - overlap, 1)):
        end = min(start + size, frames)
        found.append((start, end))
        if end == frames:
            break
    return found


def batch(model, images, *, chunk_size, overlap, alignment="none", scale_mode="median", reset_every=0):
    """images (N, 3, H, W) → merged Prediction without batch axis, in float64."""
    memory = model.initial_memory()
    spans = windows(len(images), chunk_size, overlap)
    raw = []
    for number, (start, end) in enumerate(spans):
        if reset_every and number and number % reset_every == 0:
            memory = model.reset_fast_weights(memory)
        prediction, memory = model.step(images[None, start:end], memory, chunk_size, overlap)
        outputs = (prediction.local_points, prediction.confidence, prediction.camera_poses)
        raw.append([output[0].double() for output in outputs])
    merged = []
    rotation, shift, scale = torch.eye(3).double(), torch.zeros(3).double(), 1.0
    for number, (points, confidence, poses) in enumerate(raw):
        joins = alignment != "none" or (reset_every and number % reset_every == 0)
        if number and overlap and joins:
            before, first = merged[-1], len(merged[-1][2]) - overlap
            known = before[2][first]
            if alignment == "sim3":
                k = min(overlap, len(points)) if scale_mode.endswith("_all") else 1
                ratio = (before[0][first : first + k, ..., 2] / points[:k, ..., 2]).flatten().sort().values
                cut = len(ratio) // 4
                trimmed = "trimmed" in scale_mode
                scale = float(
                    ratio[cut : len(ratio) - cut].mean() if trimmed else ratio[(len(ratio) - 1) // 2]
                )
                scale = (scale + 1) / 2 if scale_mode == "sim3_avg1" else scale
            rotation = known[:3, :3] @ poses[0, :3, :3].T
            shift = known[:3, 3] - scale * rotation @ poses[0, :3, 3]
        placed = poses.clone()
        placed[:, :3, :3] = rotation @ poses[:, :3, :3]
        placed[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + shift
        merged.append([points * scale, confidence, placed])
    cut = [[x[: len(x) - overlap] for x in window] for window in merged[:-1]] + merged[-1:]
    return Prediction(*(torch.cat(column) for column in zip(*cut, strict=True)))
