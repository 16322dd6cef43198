"""Sequences: a place, a camera and its path through it, all from (specification, seed, index).

Images are rendered on request, so that a sequence of any length costs little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from loger_ros.geometry import difference, inverse, nearest_rotation
from loger_ros.types import Frame
from loger_ros.world.camera import Camera
from loger_ros.world.effects import BLUR_SAMPLES, Effects, develop
from loger_ros.world.paths.trajectories import Mount
from loger_ros.world.render.render import Rendered, render
from loger_ros.world.render.stage import Stage, build_stage
from loger_ros.world.render.tiling import TiledRays, tile_rays
from loger_ros.world.render.views import Views
from loger_ros.world.scene import Scene

PLACES = ("rooms", "corridor", "street")
FIRST_STAMP = 1_000_000_000  # nanoseconds; a stamp of 0 means "no time" in ROS
# Frames in ROS. The truth has its own, so that it can run beside a node's map → odom → base_link.
WORLD_FRAME, TRUTH_FRAME = "world", "base_link_truth"
BASE_FRAME = "base_link"
MOTIONS = ("robot", "handheld", "flying")
ANGLES, PITCHES = (60.0, 100.0), (0.0, 20.0)  # degrees: field of view, and pitch down on a robot, as drawn
MOST_FRAMES, MOST_MOVERS = 100_000, 50
BATCH = 16  # frames rendered at once when a sequence is iterated


@dataclass(frozen=True)
class SequenceSpec:
    """What to make. None: drawn for every sequence."""

    place: str = "rooms"
    motion: str = "robot"
    frames: int = 100
    split: str = "train"
    closed: bool = False  # end where it began, in the same direction
    width: int = 112
    height: int = 84
    hfov: float | None = None  # degrees; drawn: 60..100
    distortion: tuple[float, ...] = ()
    camera_height: float | None = None  # metres, robot; drawn: 0.2..1.2
    camera_pitch: float | None = None  # degrees down, robot; drawn: 0..20
    camera_shake: float | None = None  # degrees, deviation while a robot drives; drawn: 0..0.3
    camera_forward: float | None = None  # metres ahead of a robot's turning point; drawn: 0..0.15
    rate: float = 10.0  # frames per second, for the stamps
    movers: int = 0  # how many walkers to try to place
    effects: Effects = field(default_factory=Effects)

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"place must be one of {PLACES}, got {self.place!r}")
        if self.motion not in MOTIONS:
            raise ValueError(f"motion must be one of {MOTIONS}, got {self.motion!r}")
        if not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"a sequence has 1 to {MOST_FRAMES} frames, got {self.frames}")
        if self.closed and self.frames < 100:
            raise ValueError(f"a closed loop takes at least 100 frames, got {self.frames}")
        if self.camera_height is not None and not 0.05 <= self.camera_height <= 2.0:
            raise ValueError(f"camera_height must be 0.05 to 2 m, got {self.camera_height}")
        if self.camera_pitch is not None and not -30 <= self.camera_pitch <= 60:
            raise ValueError(f"camera_pitch must be -30 to 60 degrees down, got {self.camera_pitch}")
        if self.camera_shake is not None and not 0 <= self.camera_shake <= 5:
            raise ValueError(f"camera_shake must be 0 to 5 degrees, got {self.camera_shake}")
        if self.camera_forward is not None and not -1 <= self.camera_forward <= 1:
            raise ValueError(f"camera_forward must be -1 to 1 m, got {self.camera_forward}")
        if not 0 <= self.movers <= MOST_MOVERS:
            raise ValueError(f"movers must be 0 to {MOST_MOVERS}, got {self.movers}")
        if not 0.1 <= self.rate <= 1000:
            raise ValueError(f"the rate must be 0.1 to 1000 frames per second, got {self.rate}")


@dataclass(frozen=True, eq=False)
class Clip:
    """Some rendered frames and the truth about them."""

    rgb: Tensor  # (F, H, W, 3) uint8
    depth: Tensor  # (F, H, W) float32 metres along the optical axis, infinite in the sky
    moving: Tensor  # (F, H, W) bool: surfaces that move by themselves
    T_world_camera: np.ndarray  # (F, 4, 4) float64; x right, y down, z forward; world z up
    stamps: np.ndarray  # (F,) int64 nanoseconds
    camera: Camera

    def __len__(self) -> int:
        return len(self.stamps)

    def frames(self) -> Iterator[Frame]:
        images = self.rgb.cpu().numpy()
        for stamp, image in zip(self.stamps, images, strict=True):
            yield Frame(int(stamp), image)


@dataclass(frozen=True, eq=False)
class Sequence:
    spec: SequenceSpec
    seed: int
    index: int
    scene: Scene
    camera: Camera
    T_world_camera: np.ndarray  # (F, 4, 4) float64
    mount: Mount | None  # how a robot carries the camera
    stamps: np.ndarray  # (F,) int64 nanoseconds

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def mount_transform(self) -> np.ndarray:
        """T_base_camera (4, 4): how the camera is mounted on its body when nothing shakes."""
        return (self.mount or Mount(0.0, 0.0)).transform()

    @property
    def T_world_base(self) -> np.ndarray:
        """(F, 4, 4) of a body that is rigidly fixed to the camera: x forward, y left, z up."""
        return self.T_world_camera @ inverse(self.mount_transform)

    @property
    def base_twist(self) -> np.ndarray:
        """Velocity of that body in its own axes, m/s and rad/s, over the step to each frame. (F, 6)"""
        if len(self) == 1:
            return np.zeros((1, 6))
        base = self.T_world_base
        steps = -difference(base[1:], base[:-1]) * self.spec.rate
        return np.concatenate([steps[:1], steps])

    def render(self, start: int = 0, stop: int | None = None, device: torch.device | str = "cpu") -> Clip:
        """Frames ``start`` to ``stop`` as the camera delivers them."""
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"frames {start} to {stop} are not in a sequence of {len(self)}")
        numbers = torch.arange(start, stop)
        rendered = self._look(numbers.double(), device)
        light = rendered.rgb
        if self.spec.effects.blur > 0:
            light = self._exposed(numbers, device)
        rgb = develop(light, self.spec.effects, numbers, self._effects_seed())
        return Clip(
            rgb,
            rendered.depth,
            rendered.moving,
            self.T_world_camera[start:stop],
            self.stamps[start:stop],
            self.camera,
        )

    def clips(self, size: int = BATCH, device: torch.device | str = "cpu") -> Iterator[Clip]:
        """The whole sequence, ``size`` frames at a time."""
        for start in range(0, len(self), size):
            yield self.render(start, min(start + size, len(self)), device)

    def frames(self, device: torch.device | str = "cpu") -> Iterator[Frame]:
        for clip in self.clips(device=device):
            yield from clip.frames()

    def _exposed(self, numbers: Tensor, device: torch.device | str) -> Tensor:
        """The mean light while the shutter is open, around the stamp."""
        moments = ((torch.arange(BLUR_SAMPLES) + 0.5) / BLUR_SAMPLES - 0.5) * self.spec.effects.blur
        times = (numbers[:, None] + moments).clamp(0, len(self) - 1)  # (F, samples)
        rgb = self._look(times.flatten().double(), device).rgb
        return rgb.view(len(numbers), BLUR_SAMPLES, *rgb.shape[1:]).mean(1)

    def _look(self, times: Tensor, device: torch.device | str) -> Rendered:
        """Render at frame numbers that may lie between frames."""
        stage = _stage(self, torch.device(device))
        pose = torch.from_numpy(_between(self.T_world_camera, times.numpy())).to(device)
        zeros = torch.zeros(len(times), dtype=torch.int64, device=device)
        views = Views(zeros, pose, zeros, (times / self.spec.rate).to(device))
        return render(stage, views, _rays(self.camera, torch.device(device)))

    def _effects_seed(self) -> int:
        return int(np.random.SeedSequence([self.seed, self.index]).generate_state(1)[0])


@lru_cache(maxsize=4)
def _stage(sequence: Sequence, device: torch.device) -> Stage:
    return build_stage([sequence.scene], device)


@lru_cache(maxsize=8)
def _rays(camera: Camera, device: torch.device) -> TiledRays:
    return tile_rays(camera.rays(device)[None])


def _between(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses at fractional indices: the mean of the neighbours, its rotation made orthonormal. (B, 4, 4)"""
    low = np.clip(np.floor(times).astype(int), 0, len(poses) - 1)
    high = np.minimum(low + 1, len(poses) - 1)
    share = (times - low)[:, None, None]
    if not share.any():
        return poses[low]
    mean = poses[low] * (1 - share) + poses[high] * share
    mean[:, :3, :3] = nearest_rotation(mean[:, :3, :3])
    return mean


def render_batch(
    sequences: list[Sequence], start: int, stop: int, device: torch.device | str = "cpu"
) -> list[Clip]:
    """Render the same frames of many sequences at once, to fill a GPU.

    Their images must have the same size. The result equals that of rendering them one by one.
    """
    stage = build_stage([sequence.scene for sequence in sequences], device)
    rays = tile_rays(torch.stack([sequence.camera.rays(device) for sequence in sequences]))
    count = stop - start
    which = torch.arange(len(sequences), device=device).repeat_interleave(count)
    pose = torch.from_numpy(np.concatenate([sequence.T_world_camera[start:stop] for sequence in sequences]))
    seconds = torch.cat([torch.arange(start, stop).double() / sequence.spec.rate for sequence in sequences])
    rendered = render(stage, Views(which, pose.to(device), which, seconds.to(device)), rays)
    clips = []
    for i, sequence in enumerate(sequences):
        if sequence.spec.effects.blur > 0:
            raise ValueError("motion blur is rendered one sequence at a time: use Sequence.render")
        part = slice(i * count, (i + 1) * count)
        numbers = torch.arange(start, stop)
        rgb = develop(rendered.rgb[part], sequence.spec.effects, numbers, sequence._effects_seed())
        clips.append(
            Clip(
                rgb,
                rendered.depth[part],
                rendered.moving[part],
                sequence.T_world_camera[start:stop],
                sequence.stamps[start:stop],
                sequence.camera,
            )
        )
    return clips
