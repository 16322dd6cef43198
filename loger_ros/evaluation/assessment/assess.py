"""How a model does on whole sequences: the stream that runs on robots, compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from loger_ros.config import StreamConfig
from loger_ros.evaluation.assessment.films import Film
from loger_ros.evaluation.trajectory import absolute_error, align, path_length, step_errors
from loger_ros.model import LoGeR
from loger_ros.stream import Reconstructor
from loger_ros.types import Update


@dataclass(frozen=True)
class Score:
    """The scores of one sequence; NaN if something cannot be measured."""

    frames: int
    path: float  # metres
    ate_se3: float  # percent of the path
    ate_sim3: float
    rotation: float  # mean degrees per frame
    translation: float  # mean metres per frame; if not metric, with the scale of the trajectory applied
    depth: float  # mean |d - d*| / d*, likewise
    end: float  # percent of the path: error of the last position if the first pose is given


@dataclass(frozen=True, eq=False)
class Ride:
    """A model's poses and depth for a film, in metres if its unit is known."""

    poses: np.ndarray  # (F, 4, 4) of the camera
    depth: np.ndarray | None  # (F, H, W) along the optical axis


def stream_settings(model: LoGeR, film: Film, *, in_heights: bool = True, **changes: Any) -> StreamConfig:
    """The checkpoint's recommendations with the given changes; the unit is the camera's height, if known."""
    values = model.recommended | {name: value for name, value in changes.items() if value is not None}
    size = int(values.get("chunk_size", StreamConfig.chunk_size))
    overlap = int(values.get("overlap", StreamConfig.overlap))
    values["overlap"] = min(overlap, size - 1)
    values["provisional_every"] = 0
    values["resolution"], values["field_of_view"] = "native", 0.0  # films have the network's already
    values["max_gap"] = 0.0
    values["unit"] = film.height if in_heights and film.height is not None else 1.0
    return StreamConfig(**values)


def ride(
    model: LoGeR,
    film: Film,
    settings: StreamConfig,
    *,
    start: int = 0,
    stop: int | None = None,
    fast_weights: bool = True,
    sliding_window: bool = True,
    keep_depth: bool = False,
) -> Ride:
    """Run the film, or a part of it, through the stream."""
    stream = Reconstructor.from_config(
        model,
        settings,
        camera=film.camera,
        fast_weights=fast_weights,
        sliding_window=sliding_window,
        keep_results=False,
    )
    poses: dict[int, np.ndarray] = {}
    depth: dict[int, np.ndarray] = {}

    def take(updates: list[Update]) -> None:
        for update in updates:
            final = update.final_count
            for frame in update.frames[:final]:
                poses[frame.stamp] = frame.T_map_camera
            if keep_depth:
                z = update.local_points[:final, ..., 2].cpu().numpy()
                depth.update({frame.stamp: z[i] for i, frame in enumerate(update.frames[:final])})

    for frame in film.frames(start, stop):
        take(stream.push(frame))
    take(stream.flush())
    stamps = [int(stamp) for stamp in film.stamps[start:stop]]
    if missing := sum(stamp not in poses for stamp in stamps):
        told = "; ".join(f"{name}: {count}" for name, count in stream.events.counts.items())
        raise RuntimeError(f"{missing} of {len(stamps)} frames of {film.name} got no pose ({told})")
    return Ride(
        np.array([poses[stamp] for stamp in stamps]) @ film.turn,
        np.array([depth[stamp] for stamp in stamps]) if keep_depth else None,
    )


def score(
    poses: np.ndarray,
    truth: np.ndarray,
    *,
    metric: bool,
    depth: np.ndarray | None = None,
    true_depth: np.ndarray | None = None,
) -> Score:
    """``metric``: lengths are metres; otherwise the scale of the trajectory is taken from the truth."""
    path = max(path_length(truth), 1e-9)
    ate_se3, ate_sim3 = (100 * absolute_error(poses, truth, mode) / path for mode in ("se3", "sim3"))
    scale = 1.0 if metric else align(poses[:, :3, 3], truth[:, :3, 3], "sim3")[0]
    scaled = poses.copy()
    scaled[:, :3, 3] *= scale
    degrees, metres = step_errors(scaled, truth)
    first = truth[0] @ np.linalg.inv(scaled[0])
    end = float(np.linalg.norm((first @ scaled[-1])[:3, 3] - truth[-1, :3, 3]))
    relative = float("nan")
    if depth is not None and true_depth is not None:
        pairs = zip(depth, true_depth, strict=True)
        errors = [_relative(scale * d, t) for d, t in pairs if np.isfinite(t).any()]
        relative = float(np.mean(errors)) if errors else float("nan")
    return Score(
        len(truth), path, ate_se3, ate_sim3, float(degrees.mean()), float(metres.mean()), relative,
        100 * end / path,
    )  # fmt: skip


def assess(
    model: LoGeR,
    film: Film,
    *,
    in_heights: bool = True,
    fast_weights: bool = True,
    sliding_window: bool = True,
    **changes: Any,
) -> Score:
    """``changes``: of the stream's settings. Robots are judged in metres, other motions up to scale."""
    settings = stream_settings(model, film, in_heights=in_heights, **changes)
    made = ride(
        model,
        film,
        settings,
        fast_weights=fast_weights,
        sliding_window=sliding_window,
        keep_depth=True,
    )
    return score(made.poses, film.T_world_camera, metric=film.robot, depth=made.depth, true_depth=film.depth)


def drift(poses: np.ndarray, truth: np.ndarray, length: int, mode: str) -> float:
    """Mean ATE, in percent of the path, over all stretches of ``length`` frames, each aligned by itself."""
    errors = []
    for start in range(0, len(truth) - length + 1, length):
        part = slice(start, start + length)
        path = path_length(truth[part])
        if path > 0.1:  # percent of the path means nothing at a standstill
            errors.append(100 * absolute_error(poses[part], truth[part], mode) / path)
    return float(np.mean(errors)) if errors else float("nan")


def _relative(predicted: np.ndarray, true: np.ndarray) -> float:
    seen = np.isfinite(true)
    return float(np.mean(np.abs(predicted[seen] - true[seen]) / true[seen]))
