"""How much larger the map is than a chunk, from depths of the same pixels: the published estimates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).eps
LIMITS = (1e-3, 1e3)


def scale_between(depth_map: Tensor, depth_chunk: Tensor, mode: str, unknown: float = 1.0) -> float:
    """Map units per unit of the chunk, from depths (frames, H, W); ``unknown`` if no pixel gives them."""
    frames = min(len(depth_map), len(depth_chunk)) if mode.endswith("_all") else 1
    known, new = depth_map[:frames], depth_chunk[:frames]
    valid = known.isfinite() & new.isfinite() & (new.abs() > EPSILON)
    ratios = (known / new)[valid]
    if not ratios.numel():
        return unknown
    if mode.startswith("trimmed_mean"):
        return within_limits(float(trimmed_mean(ratios)))
    median = float(ratios.median())  # torch's: the lower of two middle values
    return within_limits((median + 1) / 2 if mode == "sim3_avg1" else median)


def scales_of_frames(depth_map: Tensor, depth_chunk: Tensor) -> tuple[float, ...]:
    """The median ratio of each frame that has one, in (0, ∞)."""
    scales = []
    for known, new in zip(depth_map, depth_chunk, strict=False):
        ratios = known / new
        ratios = ratios[ratios.isfinite() & (ratios > 0)]
        if ratios.numel():
            scales.append(float(ratios.median()))
    return tuple(scales)


def trimmed_mean(values: Tensor) -> Tensor:
    """Return the mean of a vector without its lowest and highest quarter."""
    cut = len(values) // 4
    return values.sort().values[cut : len(values) - cut].mean()


def within_limits(scale: float) -> float:
    low, high = LIMITS
    return min(max(scale, low), high) if math.isfinite(scale) else 1.0
