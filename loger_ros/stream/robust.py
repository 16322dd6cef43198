"""Joins a chunk by all frames it shares with the map, weighted by confidence and robust against outliers.

The published joins trust one frame. Here, rotation and translation are the weighted medians (geometric,
by reweighting) of what each shared frame gives, and the scale is the weighted median of all depth ratios.
docs/alignment.md shows what this gains on simulated chunks.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from loger_ros.geometry import log_rotation, nearest_rotation, transform
from loger_ros.stream.scale import EPSILON, within_limits
from loger_ros.types import Update

ROUNDS = 10  # of reweighting; changes are below 1 % after five
CORE = 0.1  # of the median distance: frames closer than this are not trusted even more


def robust_join(
    shared: Update, T_chunk_camera: np.ndarray, local_points: Tensor, confidence: Tensor, last_scale: float
) -> tuple[np.ndarray, float]:
    """Return rotation and translation (4, 4), and scale, of chunk to map. Arguments as the network gave them.

    last_scale: of the chunk before, which stays if no pixel gives another.
    """
    count = min(len(shared.frames), len(T_chunk_camera))
    here = np.array([frame.T_map_camera for frame in shared.frames[:count]])
    there = T_chunk_camera[:count]
    weights = shared.confidence[:count].sigmoid() * confidence[:count].sigmoid()
    weights = weights.nan_to_num()[..., 0]  # (count, H, W)
    scale = weighted_scale(shared.local_points[:count, ..., 2], local_points[:count, ..., 2], weights)
    scale = last_scale if scale is None else scale
    trust = weights.sqrt().flatten(1).mean(1).double().cpu().numpy() + 1e-6
    rotation = _median_rotation(here[:, :3, :3] @ there[:, :3, :3].swapaxes(-1, -2), trust)
    shifts = here[:, :3, 3] - scale * there[:, :3, 3] @ rotation.T
    return transform(rotation, _median_point(shifts, trust)), scale


def weighted_scale(depth_map: Tensor, depth_chunk: Tensor, weights: Tensor) -> float | None:
    """Weighted median of the ratios of positive depths, all (frames, H, W); None if nothing gives it."""
    valid = depth_map.isfinite() & depth_chunk.isfinite() & (depth_map > EPSILON) & (depth_chunk > EPSILON)
    ratios, order = (depth_map / depth_chunk)[valid].sort()
    # Double precision: a float32 sum over a million pixels would stop growing.
    total = weights[valid][order].double().cumsum(0)
    if not len(ratios) or not float(total[-1]) > 0:
        return None
    middle = int((total < total[-1] / 2).sum())
    return within_limits(float(ratios[middle]))


def _median_rotation(rotations: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """(k, 3, 3), (k,) → (3, 3)"""
    weights = trust
    for _ in range(ROUNDS):
        mean = nearest_rotation(np.einsum("k,kij->ij", weights, rotations))
        weights = trust / _distance(log_rotation(mean.T @ rotations))
    return mean


def _median_point(points: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """(k, 3), (k,) → (3,)"""
    weights = trust
    for _ in range(ROUNDS):
        mean = weights @ points / weights.sum()
        weights = trust / _distance(points - mean)
    return mean


def _distance(differences: np.ndarray) -> np.ndarray:
    """(k, 3) → (k,), never zero."""
    length = np.linalg.norm(differences, axis=-1)
    return np.maximum(length, CORE * np.median(length) + 1e-9)
