"""Chunk frame → map frame. Each chunk is placed by the frames it shares with the chunk before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loger_ros.config import ALIGNMENTS, SCALE_MODES
from loger_ros.geometry import nearest_rotation, transform
from loger_ros.types import Update

EPSILON = torch.finfo(torch.float32).eps
SCALE_LIMITS = (1e-3, 1e3)


@dataclass(frozen=True, eq=False)
class Placement:
    """A similarity: points p of the chunk go to scale * R p + t."""

    T_map_chunk: np.ndarray  # (4, 4) float64: R and t
    scale: float = 1.0

    def poses(self, T_chunk_camera: np.ndarray) -> np.ndarray:
        """(n, 4, 4) camera → chunk become (n, 4, 4) camera → map."""
        scaled = T_chunk_camera.copy()
        scaled[:, :3, 3] *= self.scale
        return self.T_map_chunk @ scaled


HOME = Placement(np.eye(4))


@dataclass(frozen=True)
class Aligner:
    """alignment "none" trusts the memory to keep chunks consistent and joins anew only where it was lost.

    "se3" and "sim3" join every chunk to the one before by the first frame they share; sim3 also estimates
    a scale, relative to the first chunk.
    """

    alignment: str = "none"
    scale_mode: str = "median"

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment {self.alignment!r} is unknown; known: {', '.join(ALIGNMENTS)}")
        if self.scale_mode not in SCALE_MODES:
            raise ValueError(f"scale_mode {self.scale_mode!r} is unknown; known: {', '.join(SCALE_MODES)}")

    def place(
        self,
        last: Placement,
        shared: Update | None,
        T_chunk_camera: np.ndarray,
        local_points: Tensor,
        *,
        memory_lost: bool,
    ) -> Placement:
        """Where a chunk belongs, given the placement of the last one and the frames it shares with this one.

        T_chunk_camera (n, 4, 4) float64 and local_points (n, H, W, 3) are the network's.
        """
        if shared is None or not shared.frames or (self.alignment == "none" and not memory_lost):
            return last
        scale = 1.0
        if self.alignment == "sim3":
            scale = scale_between(shared.local_points[..., 2], local_points[..., 2], self.scale_mode)
        return join(shared.frames[0].T_map_camera, T_chunk_camera[0], scale)


def join(T_map_camera: np.ndarray, T_chunk_camera: np.ndarray, scale: float = 1.0) -> Placement:
    """The placement that puts one camera of the chunk on its known place in the map."""
    # Without this the product of many float32 rotations would slowly stop to be one.
    rotation = nearest_rotation(T_map_camera[:3, :3] @ T_chunk_camera[:3, :3].T)
    translation = T_map_camera[:3, 3] - scale * rotation @ T_chunk_camera[:3, 3]
    return Placement(transform(rotation, translation), scale)


def scale_between(depth_map: Tensor, depth_chunk: Tensor, mode: str) -> float:
    """Map units per unit of the chunk, from depths (frames, H, W) of the same pixels in both."""
    frames = min(len(depth_map), len(depth_chunk)) if mode.endswith("_all") else 1
    known, new = depth_map[:frames], depth_chunk[:frames]
    valid = known.isfinite() & new.isfinite() & (new.abs() > EPSILON)
    ratios = (known / new)[valid]
    if not ratios.numel():
        return 1.0
    if mode.startswith("trimmed_mean"):
        estimate = float(trimmed_mean(ratios))
    else:
        estimate = float(ratios.median())  # torch's: the lower of two middle values
        if mode == "sim3_avg1":
            estimate = (estimate + 1) / 2
    low, high = SCALE_LIMITS
    if not math.isfinite(estimate):
        return 1.0
    return min(max(estimate, low), high)


def trimmed_mean(values: Tensor) -> Tensor:
    """Of a vector without its lowest and highest quarter."""
    cut = len(values) // 4
    return values.sort().values[cut : len(values) - cut].mean()
