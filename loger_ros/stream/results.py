"""Everything a short stream produced, in one piece. Long streams hand out updates and keep nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loger_ros.stream.align import Placement
from loger_ros.types import PosedFrame, Trajectory, Update


@dataclass(frozen=True, eq=False)
class Result:
    stamps: tuple[int, ...]  # nanoseconds
    camera_poses: Tensor  # (N, 4, 4) float32, camera → map
    local_points: Tensor | None  # (N, H, W, 3) in each frame's camera, map units; None: sizes differ
    confidence: Tensor | None  # (N, H, W, 1) logits; None: sizes differ
    frames: tuple[PosedFrame, ...]  # the poses in float64, with covariance, segment and finality
    chunk_poses: Tensor  # (chunks, 4, 4) chunk → map, without the scale
    chunk_scales: Tensor  # (chunks,) map units per unit of the chunk

    @property
    def trajectory(self) -> Trajectory:
        poses = np.array([frame.T_map_camera for frame in self.frames]).reshape(-1, 4, 4)
        return Trajectory(self.stamps, poses, tuple(frame.segment for frame in self.frames))


@dataclass(frozen=True, eq=False)
class Part:
    """What is kept of one update, on the CPU and in memory of its own."""

    frames: tuple[PosedFrame, ...]
    local_points: Tensor  # (n, H, W, 3)
    confidence: Tensor  # (n, H, W, 1)

    @classmethod
    def of(cls, update: Update) -> Part:
        return cls(
            update.frames,
            update.local_points.to("cpu", copy=True),
            update.confidence.to("cpu", copy=True),
        )


def gather(parts: Sequence[Part], placements: Sequence[Placement]) -> Result:
    frames = tuple(frame for part in parts for frame in part.frames)
    poses = np.array([frame.T_map_camera for frame in frames]).reshape(-1, 4, 4)
    one_size = len({part.local_points.shape[1:] for part in parts}) == 1
    chunk_poses = np.array([placement.T_map_chunk for placement in placements]).reshape(-1, 4, 4)
    return Result(
        stamps=tuple(frame.stamp for frame in frames),
        camera_poses=torch.from_numpy(poses).float(),
        local_points=torch.cat([part.local_points for part in parts]) if one_size else None,
        confidence=torch.cat([part.confidence for part in parts]) if one_size else None,
        frames=frames,
        chunk_poses=torch.from_numpy(chunk_poses).float(),
        chunk_scales=torch.tensor([placement.scale for placement in placements]),
    )
