"""A look at held-out places now and then, so that the best model is kept and not the last one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from loger_ros.config import StreamConfig
from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.model import LoGeR
from loger_ros.stream import Reconstructor
from loger_ros.training.recipe import Recipe
from loger_ros.types import Camera, Frame
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.sequences import SequenceSpec


@dataclass(frozen=True, eq=False)
class _Way:
    """A sequence, rendered once."""

    frames: list[Frame]
    camera: Camera
    truth: np.ndarray  # (N, 4, 4)
    unit: float  # metres; 0 where nothing tells the scale, or the network is not to know it


class Examiner:
    """Streams over places and textures that neither training nor the test sets show."""

    def __init__(self, recipe: Recipe, device: torch.device | str = "cpu") -> None:
        validation, clips = recipe.validation, recipe.clips
        if validation is None:
            raise ValueError("the recipe has no section 'validation'")
        width, height = clips.image_size
        self._stream = replace(StreamConfig(**recipe.stream), resolution=f"{width}x{height}")
        self._ways = [
            _render(
                SequenceSpec(
                    place=clips.places[i % len(clips.places)],
                    motion=motion,
                    frames=validation.frames,
                    split="validation",
                    effects=PRESETS["mild"],
                    width=clips.render_size[0],
                    height=clips.render_size[1],
                    hfov=None if recipe.views else clips.hfov,
                    camera_height=clips.height_of(validation.seed, i),
                    camera_pitch=None if recipe.views else clips.camera_pitch,
                    camera_forward=clips.forward_of(validation.seed, i),
                ),
                validation.seed,
                i,
                recipe.metric,
                device,
            )
            for motion in dict.fromkeys(clips.motions)
            for i in range(validation.sequences)
        ]

    def examine(self, model: LoGeR) -> dict[str, float]:
        """Errors of the whole stream, lengths in percent of the way. "validation" is what counts."""
        rows: dict[str, list[float]] = {}
        training = model.training
        model.eval()
        for way in self._ways:
            poses = self._streamed(model, way)
            known = way.unit > 0
            kind = "robot" if known else "free"
            error = absolute_error(poses, way.truth, "se3" if known else "sim3")
            rows.setdefault(f"{kind} ATE %", []).append(100 * error / path_length(way.truth))
            rows.setdefault(f"{kind} °/frame", []).append(float(step_errors(poses, way.truth)[0].mean()))
        model.train(training)
        means = {name: float(np.mean(values)) for name, values in rows.items()}
        means["validation"] = float(np.mean([value for name, value in means.items() if name.endswith("%")]))
        return means

    def _streamed(self, model: LoGeR, way: _Way) -> np.ndarray:
        settings = replace(self._stream, unit=way.unit or 1.0)
        stream = Reconstructor.from_config(model, settings, camera=way.camera)
        for frame in way.frames:
            stream.push(frame)
        stream.flush()
        return stream.result().camera_poses.double().cpu().numpy()


def _render(spec: SequenceSpec, seed: int, index: int, metric: bool, device: torch.device | str) -> _Way:
    sequence = generate(spec, seed, index)
    pinhole = sequence.camera
    mounted = sequence.mount.transform() if sequence.mount else None
    return _Way(
        list(sequence.frames(device)),
        Camera(spec.width, spec.height, pinhole.matrix(), T_base_camera=mounted),
        sequence.T_world_camera,
        sequence.mount.height if metric and sequence.mount else 0.0,
    )
