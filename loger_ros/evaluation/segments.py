"""KITTI's errors over pieces of the path: how far off after a given length. Poses are (N, 4, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from loger_ros.evaluation.trajectory import angle
from loger_ros.geometry import inverse

EIGHTS = np.arange(1, 9)  # KITTI's pieces are 100 to 800 m long
EVERY = 10  # frames from the start of a piece to that of the next


def travelled(truth: np.ndarray) -> np.ndarray:
    """Return the metres travelled from the first frame to each (N,)."""
    steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def unit_for(path: float) -> float:
    """Return 100 m as in KITTI; for paths too short for that, 10 m, 1 m or 0.1 m, so that some piece fits."""
    return next((unit for unit in (100.0, 10.0, 1.0) if path > 2 * unit), 0.1)


def segment_errors(
    poses: np.ndarray, truth: np.ndarray, stretches: np.ndarray, unit: float | None = None
) -> dict[str, Any]:
    """Return mean errors of pieces of 1 to 8 times ``unit`` metres: percent of length, degrees per metre.

    Pieces that begin in one stretch (N,) and end in another are left out and counted.
    """
    distance = travelled(truth)
    unit = unit or unit_for(float(distance[-1]))
    starts = np.arange(0, len(poses), EVERY)
    rows, every, left_out = [], [], 0
    for length in np.round(EIGHTS * unit, 6):
        ends = np.searchsorted(distance, distance[starts] + length, side="right")
        begins, ends = starts[ends < len(poses)], ends[ends < len(poses)]
        whole = stretches[begins] == stretches[ends]
        left_out += int((~whole).sum())
        begins, ends = begins[whole], ends[whole]
        if not len(begins):
            continue
        true = inverse(truth[begins]) @ truth[ends]
        made = inverse(poses[begins]) @ poses[ends]
        off = (inverse(made) @ true)[:, :3, 3]
        errors = np.stack([100 * np.linalg.norm(off, axis=-1), angle(true, made)], 1) / length
        every.append(errors)
        translation, rotation = errors.mean(0)
        rows.append(
            {
                "length": float(length),
                "translation_percent": float(translation),
                "rotation_deg_per_m": float(rotation),
                "pieces": len(errors),
            }
        )
    mean = np.concatenate(every).mean(0) if every else np.full(2, np.nan)
    return {
        "unit": unit,
        "translation_percent": float(mean[0]),
        "rotation_deg_per_m": float(mean[1]),
        "by_length": rows,
        "left_out": left_out,
    }
