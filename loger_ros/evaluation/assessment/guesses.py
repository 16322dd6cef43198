"""Scores possible without images: baselines that know nothing, and baselines that use the truth."""

from __future__ import annotations

import numpy as np

from loger_ros.evaluation.trajectory import absolute_error
from loger_ros.geometry import inverse, nearest_rotation

ARCS = np.radians(np.arange(-1440, 1441, 10))  # total rotations that are tried


def still(truth: np.ndarray) -> np.ndarray:
    """Poses (F, 4, 4) without any motion."""
    return np.broadcast_to(np.eye(4), truth.shape).copy()


def constant(truth: np.ndarray) -> np.ndarray:
    """The mean motion of the truth in every frame."""
    steps = inverse(truth[:-1]) @ truth[1:]
    mean = np.eye(4)
    mean[:3, :3] = nearest_rotation(steps[:, :3, :3].mean(0))
    mean[:3, 3] = steps[:, :3, 3].mean(0)
    made = [np.eye(4)]
    for _ in steps:
        made.append(made[-1] @ mean)
    return np.array(made)


def arc(truth: np.ndarray) -> np.ndarray:
    """The arc at constant speed that is closest to the true path; its orientations have no meaning."""

    def drawn(turning: float) -> np.ndarray:
        made = still(truth)
        angle = turning * np.linspace(0, 1, len(truth))
        if abs(turning) < 1e-9:
            made[:, 0, 3] = np.linspace(0, 1, len(truth))
        else:
            made[:, 0, 3], made[:, 1, 3] = np.sin(angle) / turning, (1 - np.cos(angle)) / turning
        return made

    def error(turning: float) -> float:
        return absolute_error(drawn(turning), truth, "sim3")

    best = float(min(ARCS, key=error))
    width = float(ARCS[1] - ARCS[0])
    for _ in range(5):
        around = best + np.linspace(-width, width, 9)
        best, width = float(min(around, key=error)), width / 4
    made = drawn(best)
    return _to_scale(made, truth)


def _to_scale(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    points, goal = made[:, :3, 3] - made[:, :3, 3].mean(0), truth[:, :3, 3] - truth[:, :3, 3].mean(0)
    singular = np.linalg.svd(goal.T @ points, compute_uv=False)
    made[:, :3, 3] *= singular[:2].sum() / max(float((points**2).sum()), 1e-12)  # flat: the third is 0
    return made
