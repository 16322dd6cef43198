"""Extracts the points worth keeping from placed chunks, on the device of the predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loger_ros.config import CloudConfig
from loger_ros.types import Update

LEAST_CONFIDENCE = 1e-5  # a point with less is never shown, whatever the threshold


@dataclass(frozen=True, eq=False)
class Cloud:
    points: Tensor  # (M, 3) float32 in the map
    colours: Tensor  # (M, 3) uint8 RGB
    confidence: Tensor  # (M,) float32 in [0, 1]

    def __len__(self) -> int:
        return len(self.points)

    def cpu(self) -> Cloud:
        return Cloud(self.points.cpu(), self.colours.cpu(), self.confidence.cpu())


def cloud_of(update: Update, config: CloudConfig) -> Cloud:
    """Return the confident points of an update's frames, away from depth edges and within range.

    Points of provisional frames are included: pass ``update[: update.final_count]`` to leave them out.
    """
    every = (slice(None), slice(None, None, config.stride), slice(None, None, config.stride))
    local = update.local_points
    depth = local[..., 2]  # (n, H, W)
    confidence = update.confidence[every].float().sigmoid()
    keep = confidence[..., 0] >= max(config.min_confidence, LEAST_CONFIDENCE)
    keep &= depth[every] > config.min_range
    if config.max_range:
        keep &= depth[every] < config.max_range
    if config.edge_tolerance:
        keep &= ~depth_edges(depth, config.edge_tolerance)[every]
    poses = np.array([frame.T_map_camera for frame in update.frames]).reshape(-1, 4, 4)
    points = world_points(local[every], torch.from_numpy(poses))
    chosen = keep.flatten().nonzero()[:, 0]  # a mask would be searched again for each of these
    colours = update.images[every].to(local.device)
    cloud = Cloud(_rows(points, chosen), _rows(colours, chosen), _rows(confidence, chosen)[:, 0])
    return cloud if bool(cloud.points.sum().isfinite()) else _finite(cloud)


def world_points(local_points: Tensor, T_map_camera: Tensor) -> Tensor:
    """(n, H, W, 3) and (n, 4, 4) → (n, H, W, 3) in the map, float32."""
    poses = T_map_camera.to(local_points)
    # With the points as columns: as rows, the product takes several times as long on a CPU.
    moved = torch.baddbmm(poses[:, :3, 3:], poses[:, :3, :3], local_points.flatten(1, 2).mT)
    return moved.mT.unflatten(1, local_points.shape[1:3])


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """(n, H, W, k) → (M, k)"""
    return values.reshape(-1, values.shape[-1]).index_select(0, chosen)


def _finite(cloud: Cloud) -> Cloud:
    known = cloud.points.isfinite().all(-1)
    return Cloud(cloud.points[known], cloud.colours[known], cloud.confidence[known])


def depth_edges(depth: Tensor, tolerance: float) -> Tensor:
    """(n, H, W) → bool: whether the 3x3 neighbourhood spans more than ``tolerance`` times the depth there."""
    known = depth.nan_to_num(nan=0.0)
    span = _greatest_around(known) + _greatest_around(-known)
    return (span / known) > tolerance


def _greatest_around(values: Tensor) -> Tensor:
    """Return the greatest of each 3x3 neighbourhood: on a CPU, at a small part of the cost of max_pool2d."""
    for axis in (1, 2):
        last = values.shape[axis] - 1
        if last > 0:
            pairs = torch.maximum(values.narrow(axis, 0, last), values.narrow(axis, 1, last))
            inner = torch.maximum(pairs.narrow(axis, 0, last - 1), pairs.narrow(axis, 1, last - 1))
            values = torch.cat([pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, last - 1, 1)], axis)
    return values
