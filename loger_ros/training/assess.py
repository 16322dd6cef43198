"""How a model does on whole sequences: the stream that robots run, against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.geometry import inverse
from loger_ros.model import LoGeR
from loger_ros.stream import Reconstructor
from loger_ros.types import Frame
from loger_ros.world.sequences import Sequence


@dataclass(frozen=True)
class Score:
    """Of one sequence; lengths in percent of the true path."""

    frames: int
    path: float  # metres
    ate_se3: float
    ate_sim3: float
    rotation: float  # mean degrees per frame
    translation: float  # mean metres per frame
    depth: float  # mean |d - d*| / d*, after the scale of the trajectory where metric is off


def assess(
    model: LoGeR,
    sequence: Sequence,
    image_size: tuple[int, int],
    *,
    chunk_size: int,
    overlap: int,
    alignment: str = "se3",
    metric: bool = True,
    fast_weights: bool = True,
    sliding_window: bool = True,
) -> Score:
    stream = Reconstructor(
        model,
        chunk_size,
        overlap,
        alignment,
        fast_weights=fast_weights,
        sliding_window=sliding_window,
        keep_results=False,
    )
    poses: dict[int, np.ndarray] = {}
    truths: dict[int, np.ndarray] = {}
    errors: list[tuple[np.ndarray, np.ndarray]] = []

    def take(updates: list) -> None:
        for update in updates:
            predicted = update.local_points[..., 2].cpu().numpy()
            for i, frame in enumerate(update.frames):
                if frame.final:
                    poses[frame.stamp] = frame.T_map_camera
                    errors.append((predicted[i], truths.pop(frame.stamp)))

    factor = sequence.camera.width // image_size[0]
    for clip in sequence.clips(32, model.device):
        rgb, depth = clip.rgb.permute(0, 3, 1, 2).float(), clip.depth[:, None]
        if factor > 1:
            rgb, depth = avg_pool2d(rgb, factor), avg_pool2d(depth, factor)
        images = rgb.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        for stamp, image, true in zip(clip.stamps, images, depth[:, 0].cpu().numpy(), strict=True):
            truths[int(stamp)] = true
            take(stream.push(Frame(int(stamp), image)))
    take(stream.flush())

    made = np.array([poses[int(stamp)] for stamp in sequence.stamps])
    true = sequence.T_world_camera
    path = path_length(true)
    degrees, metres = step_errors(made, true)
    scale = 1.0 if metric else path / max(path_length(made), 1e-9)
    return Score(
        frames=len(made),
        path=path,
        ate_se3=100 * absolute_error(made, true, "se3") / path,
        ate_sim3=100 * absolute_error(made, true, "sim3") / path,
        rotation=float(degrees.mean()),
        translation=float(metres.mean()),
        depth=float(np.mean([_relative(scale * p, t) for p, t in errors])),
    )


def still(sequence: Sequence) -> Score:
    """What a model that sees no motion would get."""
    true = sequence.T_world_camera
    made = np.broadcast_to(np.eye(4), true.shape)
    path = path_length(true)
    degrees, metres = step_errors(made, true)
    centred = 100 * absolute_error(made, true, "se3") / path
    return Score(len(true), path, centred, centred, float(degrees.mean()), float(metres.mean()), float("nan"))


def constant(sequence: Sequence) -> Score:
    """The best constant motion, known from the truth."""
    true = sequence.T_world_camera
    steps = inverse(true[:-1]) @ true[1:]
    mean = np.eye(4)
    u, _, vt = np.linalg.svd(steps[:, :3, :3].mean(0))
    mean[:3, :3], mean[:3, 3] = u @ vt, steps[:, :3, 3].mean(0)
    made = [np.eye(4)]
    for _ in steps:
        made.append(made[-1] @ mean)
    poses = np.array(made)
    path = path_length(true)
    degrees, metres = step_errors(poses, true)
    return Score(
        len(true),
        path,
        100 * absolute_error(poses, true, "se3") / path,
        100 * absolute_error(poses, true, "sim3") / path,
        float(degrees.mean()),
        float(metres.mean()),
        float("nan"),
    )


def _relative(predicted: np.ndarray, true: np.ndarray) -> float:
    seen = np.isfinite(true)
    return float(np.mean(np.abs(predicted[seen] - true[seen]) / true[seen])) if seen.any() else 0.0
