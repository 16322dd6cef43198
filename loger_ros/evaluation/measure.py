"""Every number of one run, as written to metrics.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from loger_ros.evaluation.association import TOLERANCE, associate
from loger_ros.evaluation.clouds import cloud_errors
from loger_ros.evaluation.relative import auc, pair_errors, rpe
from loger_ros.evaluation.run import Run
from loger_ros.evaluation.segments import segment_errors, travelled
from loger_ros.evaluation.trajectory import (
    ALIGNMENTS,
    Similarity,
    Statistics,
    alignment,
    path_length,
    placing,
    position_errors,
)
from loger_ros.types import Trajectory

FEWEST = 3  # matched poses below which no alignment is defined
AUC_LIMITS = (15, 30)  # degrees
CLOUD_THRESHOLD = 0.1  # metres
HOLE = 3  # median intervals; a longer step is not one from frame to frame


@dataclass(frozen=True, eq=False)
class Matched:
    """Poses of a trajectory and the true ones that belong to them."""

    stamps: np.ndarray  # (N,) ns
    poses: np.ndarray  # (N, 4, 4)
    truth: np.ndarray  # (N, 4, 4)
    stretches: np.ndarray  # (N,) number of the stretch without holes that each belongs to

    @classmethod
    def of(cls, made: Trajectory, truth: Trajectory, tolerance: int = TOLERANCE) -> Matched:
        mine, theirs = associate(made.stamps, truth.stamps, tolerance)
        order = np.argsort(np.asarray(made.stamps, dtype=np.int64)[mine], kind="stable")
        mine, theirs = mine[order], theirs[order]
        stamps = np.asarray(made.stamps, dtype=np.int64)[mine]
        stretches = stretches_of(stamps, np.asarray(made.segments, dtype=np.int64)[mine])
        return cls(stamps, made.T_map_camera[mine], truth.T_map_camera[theirs], stretches)

    def __len__(self) -> int:
        return len(self.stamps)


def measure(
    run: Run, truth: Trajectory | None, tolerance: int = TOLERANCE, threshold: float = CLOUD_THRESHOLD
) -> dict:
    """Return all that can be measured; what needs a missing truth is left out."""
    metrics: dict[str, Any] = {
        "frames": _coverage(run, tolerance),
        "time": _times(run),
        "memory_mb": run.peak,
    }
    metrics["events"] = dict(run.events.counts)
    if truth is not None and len(truth):
        matched = Matched.of(run.trajectory, truth, tolerance)
        metrics["frames"]["with_truth"] = len(matched)
        metrics["tolerance_ms"] = tolerance * 1e-6
        if len(matched) >= FEWEST:
            metrics |= trajectory_metrics(matched)
            if len(run.first_reported):
                metrics["causal"] = causal_error(Matched.of(run.first_reported, truth, tolerance), run.delays)
            metrics |= _scene_metrics(run, matched, threshold)
    return without_nan(metrics)


def stretches_of(stamps: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Number stretches (N,), split where poses or their truth are missing or the made motion is unknown."""
    intervals = np.diff(stamps)
    holes = np.diff(segments) != 0
    if len(intervals):
        holes |= intervals > HOLE * np.median(intervals)
    return np.concatenate([[0], np.cumsum(holes)])[: len(stamps)]


def trajectory_metrics(matched: Matched) -> dict[str, Any]:
    poses, truth, stretches = matched.poses, matched.truth, matched.stretches
    ate = {}
    for mode in ALIGNMENTS:
        similarity = alignment(poses, truth, mode)
        errors = position_errors(similarity.poses(poses), truth)
        ate[mode] = Statistics.of(errors).as_dict() | {"scale": similarity.scale}
    scaled = _scaled(poses, ate["sim3"]["scale"])
    pairs = pair_errors(poses, truth)
    return {
        "path_m": path_length(truth),
        "ate": ate,
        "rpe": rpe(poses, truth, stretches),
        "rpe_scaled": rpe(scaled, truth, stretches),
        "segments": segment_errors(poses, truth, stretches),
        "segments_scaled": segment_errors(scaled, truth, stretches),
        "auc": {str(limit): auc(*pairs, limit) for limit in AUC_LIMITS} | {"pairs": len(pairs[0])},
    }


def causal_error(matched: Matched, delays: np.ndarray) -> dict[str, Any]:
    """Errors of the poses as first reported, not scaled, and aligned by the first pose alone."""
    result: dict[str, Any] = {}
    if len(matched):
        made = alignment(matched.poses, matched.truth, "none").poses(matched.poses)
        errors = position_errors(made, matched.truth)
        distance = float(travelled(matched.truth)[-1])
        result = Statistics.of(errors).as_dict() | {"end": float(errors[-1])}
        result["end_percent"] = 100 * float(errors[-1]) / distance if distance else float("nan")
    if len(delays):
        result["age_s"] = {"mean": float(delays.mean()), "max": float(delays.max())}
    return result


def _scene_metrics(run: Run, matched: Matched, threshold: float) -> dict[str, Any]:
    """Depth and cloud, as they are and with the scale (and placement) that fits the trajectory best."""
    result: dict[str, Any] = {}
    placings: dict[str, Similarity] = {
        mode: placing(matched.poses, matched.truth, mode) for mode in ("none", "sim3")
    }
    if run.depth.frames:
        result["depth"] = {
            "metric": run.depth.errors(),
            "trajectory_scale": run.depth.errors(placings["sim3"].scale),
            "median_scale": run.depth.errors(None),
            "frames": run.depth.frames,
        }
    if run.true_cloud is not None and len(run.true_cloud):
        points, true = run.cloud.points.numpy().astype(np.float64), run.true_cloud.astype(np.float64)
        result["cloud"] = {
            mode: cloud_errors(placed.points(points), true, threshold, _common_voxel(run, placed, threshold))
            for mode, placed in placings.items()
        }
    return result


def _common_voxel(run: Run, placed: Similarity, threshold: float) -> float:
    """In metres. Each cloud has a point per voxel in its own unit; the coarser limits what both can show."""
    return max(run.voxel_size, run.voxel_size * placed.scale, threshold / 2)


def _coverage(run: Run, tolerance: int) -> dict[str, Any]:
    """posed: images with a pose; a trajectory made elsewhere may have more poses than there are images."""
    taken, posed = len(run.stamps), len(associate(run.stamps, run.trajectory.stamps, tolerance)[0])
    return {
        "taken": taken,
        "posed": posed,
        "coverage_percent": 100 * posed / taken if taken else 0.0,
        "segments": len(set(run.trajectory.segments)),
        "points": len(run.cloud),
    }


def _times(run: Run) -> dict[str, Any]:
    """In seconds. A frame that completes a chunk takes long, the others little: the mean gives the rate."""
    steps = np.array(run.timing.steps)
    if not len(steps):
        return {}
    return {
        "total": run.timing.total,
        "stream_per_frame": float(steps.mean()),
        "longest_frame": float(steps.max()),
        "frames_per_second": len(steps) / float(steps.sum()) if steps.sum() > 0 else float("nan"),
        "reading_waits": run.timing.waits,
        "mapping": run.timing.mapping,
    }


def _scaled(poses: np.ndarray, scale: float) -> np.ndarray:
    scaled = poses.copy()
    scaled[:, :3, 3] *= scale
    return scaled


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, with None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
