"""Poses drawn at random, and updates that hold nothing but poses."""

from __future__ import annotations

import numpy as np
import torch

from loger_ros.geometry import exp_rotation, transform
from loger_ros.types import PosedFrame, Update


def random_pose(rng: np.random.Generator, size: float = 1.0) -> np.ndarray:
    return transform(exp_rotation(rng.normal(size=3) * size), rng.normal(size=3) * size)


def update(poses: dict[int, np.ndarray], segment: int = 0, final: int | None = None) -> Update:
    """final: how many are; all, where that is not said."""
    covariance = np.diag([1.0, 2, 3, 4, 5, 6]) * 1e-4
    frames = tuple(
        PosedFrame(stamp, pose, covariance, final is None or i < final, segment)
        for i, (stamp, pose) in enumerate(poses.items())
    )
    nothing = torch.zeros(len(frames), 1)
    return Update(frames, nothing, nothing, nothing, 0, np.eye(4), 1.0, np.diag([1.0, 1, 1, 4, 4, 4]) * 1e-6)
