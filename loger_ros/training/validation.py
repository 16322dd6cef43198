"""Regular checks on held-out places, so that the best model is kept and not only the last one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from loger_ros.config import StreamConfig
from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.model import LoGeR
from loger_ros.stream import Reconstructor
from loger_ros.training.bank import RunError
from loger_ros.training.recipe import Recipe, Validation, own_stream
from loger_ros.types import Camera, Frame
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.sequences import ANGLES, PITCHES, SequenceSpec


@dataclass(frozen=True, eq=False)
class _Way:
    """A sequence, rendered once."""

    frames: list[Frame]
    camera: Camera
    truth: np.ndarray  # (N, 4, 4)
    unit: float  # metres; 0 if nothing tells the scale, or if the recipe is not metric


class Examiner:
    """Streams over places and textures that neither training nor the test sets show."""

    def __init__(self, recipe: Recipe, device: torch.device | str = "cpu") -> None:
        validation, clips = recipe.validation, recipe.clips
        if validation is None:
            raise ValueError("the recipe has no section 'validation'")
        width, height = clips.image_size
        self._stream = replace(StreamConfig(**recipe.stream), resolution=f"{width}x{height}")
        self._ways = [
            _render(recipe, motion, validation, number, device)
            for motion in dict.fromkeys(clips.motions)
            for number in range(validation.sequences)
        ]

    def examine(self, model: LoGeR) -> dict[str, float]:
        """Return errors of the whole stream, lengths in percent of the path. "validation" decides."""
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


def _render(
    recipe: Recipe, motion: str, validation: Validation, number: int, device: torch.device | str
) -> _Way:
    clips, seed = recipe.clips, validation.seed
    hfov, pitch = _camera_of(recipe, seed, number)
    try:
        spec = SequenceSpec(
            place=clips.places[number % len(clips.places)],
            motion=motion,
            frames=validation.frames,
            split="validation",
            effects=PRESETS["mild"],
            width=clips.render_size[0],
            height=clips.render_size[1],
            hfov=hfov,
            camera_height=clips.height_of(seed, number),
            camera_pitch=pitch,
            camera_forward=clips.forward_of(seed, number),
        )
        sequence = generate(spec, seed, number)
    except ValueError as error:
        raise RunError(f"sequence {number} of the recipe's validation: {error}") from error
    pinhole = sequence.camera
    mounted = sequence.mount.transform() if sequence.mount else None
    return _Way(
        list(sequence.frames(device)),
        Camera(spec.width, spec.height, pinhole.matrix(), T_base_camera=mounted),
        sequence.T_world_camera,
        sequence.mount.height if recipe.metric and sequence.mount else 0.0,
    )


def _camera_of(recipe: Recipe, seed: int, number: int) -> tuple[float | None, float | None]:
    """Return a camera as training imitates it: its field of view and, on a robot, its pitch down, in degrees.

    None: the world draws it; its own ranges are those of the recipes that ship.
    """
    clips = recipe.clips
    if recipe.views is None:
        return clips.hfov, clips.camera_pitch
    random = own_stream(seed, number, 3)
    hfov = None if recipe.views == ANGLES else random.uniform(*recipe.views)
    if clips.camera_pitch is None:
        return hfov, None
    low, high = (clips.camera_pitch + tilt for tilt in recipe.tilts)
    return hfov, None if (low, high) == PITCHES else random.uniform(low, high)
