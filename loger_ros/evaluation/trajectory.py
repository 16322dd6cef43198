"""Errors of a trajectory against the truth, both (N, 4, 4) from camera to a world, frame by frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from loger_ros.geometry import exp_rotation, inverse, log_rotation

ALIGNMENTS = ("none", "se3", "sim3")
STRAIGHT = 0.02  # width over length of a path; below it, positions do not tell the rotation about the path


@dataclass(frozen=True)
class Statistics:
    rmse: float
    mean: float
    median: float
    max: float

    @classmethod
    def of(cls, errors: np.ndarray) -> Statistics:
        if not len(errors):
            return cls(*[float("nan")] * 4)
        rmse = np.sqrt(np.mean(np.square(errors)))
        return cls(float(rmse), float(errors.mean()), float(np.median(errors)), float(errors.max()))

    def as_dict(self) -> dict[str, float]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Similarity:
    """The transform from the map to the truth's world."""

    scale: float
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)

    def points(self, points: np.ndarray) -> np.ndarray:
        """(..., 3)"""
        return self.scale * points @ self.rotation.T + self.translation

    def poses(self, poses: np.ndarray) -> np.ndarray:
        """(N, 4, 4); rotations stay rotations."""
        moved = poses.copy()
        moved[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        moved[:, :3, 3] = self.points(poses[:, :3, 3])
        return moved


def align(points: np.ndarray, truth: np.ndarray, mode: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale, rotation and translation that fit points (N, 3) to truth (N, 3) by least squares."""
    if mode not in ALIGNMENTS:
        raise ValueError(f"alignment must be one of {', '.join(ALIGNMENTS)}, got {mode!r}")
    if mode == "none":
        return 1.0, np.eye(3), np.zeros(3)
    centre, true_centre = points.mean(0), truth.mean(0)
    spread, true_spread = points - centre, truth - true_centre
    u, s, vt = np.linalg.svd(true_spread.T @ spread)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = 1.0
    if mode == "sim3":
        scale = float((s * sign).sum() / max(float((spread**2).sum()), 1e-12))
    return scale, rotation, true_centre - scale * rotation @ centre


def alignment(poses: np.ndarray, truth: np.ndarray, mode: str) -> Similarity:
    """Least squares over all positions; "none": all poses are moved so that the first one is the true one."""
    if mode == "none":
        first = truth[0] @ inverse(poses[0])
        return Similarity(1.0, first[:3, :3], first[:3, 3])
    return Similarity(*align(poses[:, :3, 3], truth[:, :3, 3], mode))


def placing(poses: np.ndarray, truth: np.ndarray, mode: str) -> Similarity:
    """Return the alignment by which clouds and pictures are placed.

    On a nearly straight path its rotation about the path is noise, so the cameras' rotations decide it.
    """
    found = alignment(poses, truth, mode)
    centre = truth[:, :3, 3].mean(0)
    offsets = truth[:, :3, 3] - centre
    _, squares, axes = np.linalg.svd(offsets.T @ offsets)
    if mode == "none" or squares[1] >= STRAIGHT**2 * squares[0]:
        return found
    way = axes[0]
    turned = (truth[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], -1, -2)).mean(0) @ found.rotation.T
    x, y, z = turned[2, 1] - turned[1, 2], turned[0, 2] - turned[2, 0], turned[1, 0] - turned[0, 1]
    about = np.arctan2(way @ (x, y, z), np.trace(turned) - way @ turned @ way)  # nearest to turned
    rotation = exp_rotation(about * way) @ found.rotation
    return Similarity(found.scale, rotation, centre - found.scale * rotation @ poses[:, :3, 3].mean(0))


def position_errors(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distances (N,) of poses that are in the truth's world already."""
    return np.linalg.norm(poses[:, :3, 3] - truth[:, :3, 3], axis=-1)


def absolute_error(poses: np.ndarray, truth: np.ndarray, mode: str) -> float:
    """Root mean square distance of the positions after alignment, in the units of the truth."""
    points, goal = poses[:, :3, 3], truth[:, :3, 3]
    scale, rotation, translation = align(points, goal, mode)
    return float(np.sqrt(np.mean(np.sum((scale * points @ rotation.T + translation - goal) ** 2, -1))))


def path_length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1).sum())


def step_errors(poses: np.ndarray, truth: np.ndarray, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Errors of motion from each frame to the one ``step`` later: degrees and distance, (N - step,) each."""
    made = inverse(poses[:-step]) @ poses[step:]
    true = inverse(truth[:-step]) @ truth[step:]
    return angle(true, made), np.linalg.norm(made[:, :3, 3] - true[:, :3, 3], axis=-1)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between the rotations of two sets of poses."""
    turned = np.swapaxes(a[:, :3, :3], -1, -2) @ b[:, :3, :3]
    return np.rad2deg(np.linalg.norm(log_rotation(turned), axis=-1))
