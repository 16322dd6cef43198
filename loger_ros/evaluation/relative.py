"""Errors of motion between frames: RPE, and the AUC that pose papers report. Poses are (N, 4, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from loger_ros.evaluation.trajectory import Statistics, angle, step_errors
from loger_ros.geometry import inverse

MOST_PAIRS = 50_000


def rpe(poses: np.ndarray, truth: np.ndarray, stretches: np.ndarray, step: int = 1) -> dict[str, Any]:
    """Errors of steps within a stretch (N,); steps between two stretches are left out and counted."""
    degrees, distances = step_errors(poses, truth, step)
    whole = stretches[step:] == stretches[:-step]
    return {
        "rotation": Statistics.of(degrees[whole]).as_dict(),
        "translation": Statistics.of(distances[whole]).as_dict(),
        "left_out": int((~whole).sum()),
    }


def pair_errors(poses: np.ndarray, truth: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return errors of pairs of frames, in degrees: of their rotations and of their translation directions.

    All pairs if there are at most MOST_PAIRS, else that many chosen at random. As in the papers, the sign of
    a direction is ignored. Pairs without true motion have no direction and are left out.
    """
    count = len(poses)
    first, second = (
        np.triu_indices(count, 1) if count * (count - 1) // 2 <= MOST_PAIRS else _drawn(count, seed)
    )
    true = inverse(truth[first]) @ truth[second]
    made = inverse(poses[first]) @ poses[second]
    length = np.linalg.norm(true[:, :3, 3], axis=-1)
    moved = length > 1e-6 * max(float(length.max(initial=0.0)), 1e-12)
    true, made = true[moved], made[moved]
    dot = np.abs((true[:, :3, 3] * made[:, :3, 3]).sum(-1))
    lengths = np.linalg.norm(true[:, :3, 3], axis=-1) * np.linalg.norm(made[:, :3, 3], axis=-1)
    cosine = np.where(
        lengths > 0, dot / np.maximum(lengths, 1e-300), 0.0
    )  # made poses without motion have no direction: 90°
    return angle(true, made), np.rad2deg(np.arccos(np.clip(cosine, 0, 1)))


def auc(rotation: np.ndarray, direction: np.ndarray, limit: int) -> float:
    """Mean share of pairs whose worse error is below 1, 2, ... ``limit`` degrees, in percent."""
    if not len(rotation):
        return float("nan")
    worse = np.maximum(rotation, direction)
    return 100 * float(np.mean([(worse < degrees).mean() for degrees in range(1, limit + 1)]))


def _drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, count, MOST_PAIRS)
    second = (first + rng.integers(1, count, MOST_PAIRS)) % count
    return np.minimum(first, second), np.maximum(first, second)
