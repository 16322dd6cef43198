"""Errors of a trajectory against the truth, both (N, 4, 4) camera → somewhere, frame by frame."""

from __future__ import annotations

import numpy as np

from loger_ros.geometry import inverse, log_rotation

ALIGNMENTS = ("none", "se3", "sim3")


def align(points: np.ndarray, truth: np.ndarray, mode: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and translation that take points (N, 3) nearest to truth (N, 3), by least squares."""
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


def absolute_error(poses: np.ndarray, truth: np.ndarray, mode: str) -> float:
    """Root mean square distance of the positions after alignment, in the units of the truth."""
    points, goal = poses[:, :3, 3], truth[:, :3, 3]
    scale, rotation, translation = align(points, goal, mode)
    return float(np.sqrt(np.mean(np.sum((scale * points @ rotation.T + translation - goal) ** 2, -1))))


def path_length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1).sum())


def step_errors(poses: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each frame to the next: degrees (N - 1,) and distance (N - 1,)."""
    made = inverse(poses[:-1]) @ poses[1:]
    true = inverse(truth[:-1]) @ truth[1:]
    turned = np.swapaxes(true[:, :3, :3], -1, -2) @ made[:, :3, :3]
    degrees = np.rad2deg(np.linalg.norm(log_rotation(turned), axis=-1))
    return degrees, np.linalg.norm(made[:, :3, 3] - true[:, :3, 3], axis=-1)
