"""Sequences that are rendered once, so that all networks, settings and baselines see the same images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from loger_ros.config import StreamConfig
from loger_ros.stream.view import View
from loger_ros.types import Camera, Frame
from loger_ros.world.generate import generate
from loger_ros.world.named_sets import NAMED_SETS
from loger_ros.world.sequences import Sequence, SequenceSpec

BATCH = 32  # frames rendered at once
ATTEMPTS = 10
UNTRAINED = StreamConfig()
OVERSAMPLED = 2  # times the network's size: images are rendered at this size, then averaged down


@dataclass(frozen=True, eq=False)
class Film:
    name: str
    motion: str
    height: float | None  # metres of the camera above the ground, if a robot carries it
    pitch: float | None  # degrees downwards
    turn: np.ndarray  # (4, 4) T_view_camera, the rotation from ``images`` to ``seen``
    matrix: np.ndarray  # (3, 3) intrinsics of ``images``
    images: np.ndarray  # (F, H, W, 3) uint8, as the camera sees them
    seen: np.ndarray  # (F, H, W, 3) uint8, at the field of view and pitch of the network's training
    seen_matrix: np.ndarray  # (3, 3) intrinsics of ``seen``
    T_base_seen: np.ndarray | None  # (4, 4) of the camera that sees ``seen``, if a robot carries it
    clear: tuple[slice, slice]  # rows and columns of ``seen`` that have no black border
    depth: (
        np.ndarray
    )  # (F, H, W) float32 metres of ``seen``, infinite in the sky and beyond the camera's view
    fine_matrix: np.ndarray
    fine: np.ndarray | None  # (F, 2 H, 2 W) uint8 grey, if it was asked for
    T_world_camera: np.ndarray  # (F, 4, 4)
    stamps: np.ndarray  # (F,)

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def width(self) -> int:
        return int(self.images.shape[2])

    @property
    def robot(self) -> bool:
        return self.height is not None

    @property
    def seen_pitch(self) -> float | None:
        """Degrees downwards."""
        mount = self.T_base_seen
        return None if mount is None else float(np.degrees(np.arcsin(-mount[2, 2])))

    @property
    def camera(self) -> Camera:
        """The camera that sees ``seen``."""
        height, width = self.seen.shape[1:3]
        return Camera(width, height, self.seen_matrix, T_base_camera=self.T_base_seen)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        for stamp, image in zip(self.stamps[start:stop], self.seen[start:stop], strict=True):
            yield Frame(int(stamp), image)


def film(
    name: str,
    sequence: Sequence,
    size: tuple[int, int],
    device: torch.device | str = "cpu",
    *,
    frames: int | None = None,
    fine: bool,
    taught: StreamConfig = UNTRAINED,
) -> Film:
    """Render the sequence, or its first ``frames``, and average the images down to ``size`` (width, height).

    taught: field of view and pitch of the network's training.
    """
    factor = sequence.camera.width // size[0]
    if (sequence.camera.width, sequence.camera.height) != (factor * size[0], factor * size[1]):
        raise ValueError(f"{sequence.camera.width}x{sequence.camera.height} is not a multiple of {size}")
    images, depth, greys, seen = [], [], [], []
    whole, mount = sequence.camera, sequence.mount
    matrix = whole.resized(*size).matrix()
    view, turn = None, np.eye(4)
    seen_matrix, mounted = matrix, mount.transform() if mount else None
    clear = slice(0, size[1]), slice(0, size[0])
    if taught.field_of_view:
        camera = Camera(whole.width, whole.height, whole.matrix(), T_base_camera=mounted)
        view = View(camera, size, taught.field_of_view, taught.pitch)
        turn[:3, :3] = view.turn
        white = view(np.full((whole.height, whole.width), 255, np.uint8))
        seen_matrix, clear = view.camera.matrix, without_border(white == 255)
        mounted = view.camera.T_base_camera
    weights = torch.tensor([0.299, 0.587, 0.114], device=device)
    count = min(frames or len(sequence), len(sequence))
    for start in range(0, count, BATCH):
        clip = sequence.render(start, min(start + BATCH, count), device)
        rgb = clip.rgb.permute(0, 3, 1, 2).float()
        far = clip.depth[:, None]
        if fine:
            greys.append((clip.rgb.float() @ weights).round().to(torch.uint8).cpu())
        if view is not None:
            seen += [view(image) for image in clip.rgb.cpu().numpy()]
            depth += [view.depth(image) for image in clip.depth.cpu().numpy()]
        if factor > 1:
            rgb, far = avg_pool2d(rgb, factor), avg_pool2d(far, factor)
        images.append(rgb.round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        if view is None:
            depth += list(far[:, 0].cpu().numpy())
    coarse = torch.cat(images).numpy()
    return Film(
        name,
        sequence.spec.motion,
        None if mount is None else mount.height,
        None if mount is None else mount.pitch,
        turn,
        matrix,
        coarse,
        np.stack(seen) if seen else coarse,
        seen_matrix,
        mounted,
        clear,
        np.stack(depth),
        sequence.camera.matrix(),
        torch.cat(greys).numpy() if fine else None,
        sequence.T_world_camera[:count],
        sequence.stamps[:count],
    )


def without_border(seen: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the largest rectangle of an image without black border.

    seen (H, W) bool: the pixels that the camera sees, which must be contiguous in each row.
    """
    width, some = seen.shape[1], seen.any(1)
    left = np.where(some, seen.argmax(1), width)
    right = np.where(some, width - seen[:, ::-1].argmax(1), 0)
    most, best = 0, (slice(0), slice(0))
    for top in range(len(seen)):
        lefts, rights = np.maximum.accumulate(left[top:]), np.minimum.accumulate(right[top:])
        areas = (rights - lefts) * np.arange(1, len(lefts) + 1)
        last = int(np.argmax(areas))
        if areas[last] > most:
            most = int(areas[last])
            best = slice(top, top + last + 1), slice(int(lefts[last]), int(rights[last]))
    return best


def set_films(
    name: str,
    size: tuple[int, int],
    device: torch.device | str,
    *,
    seed: int | None = None,
    frames: int | None = None,
    fine: bool = True,
    taught: StreamConfig = UNTRAINED,
) -> Iterator[Film]:
    """A named test set, or with a ``seed`` other places of the same kinds; at most ``frames`` of each."""
    own_seed, specs = NAMED_SETS[name]
    for index, spec in enumerate(specs):
        if seed is None:
            sequence = generate(sized(spec, size), own_seed, index)
        else:
            sequence = _generated(sized(spec, size), seed, index)
        suffix = "" if seed is None else f", seed {seed}"
        yield film(
            f"{name} {index}{suffix}",
            sequence,
            size,
            device,
            frames=frames,
            fine=fine,
            taught=taught,
        )


def long_films(
    motion: str,
    count: int,
    frames: int,
    size: tuple[int, int],
    device: torch.device | str,
    seed: int,
    taught: StreamConfig = UNTRAINED,
) -> Iterator[Film]:
    """Long sequences through all kinds of places of the test split."""
    places = ("rooms", "corridor", "street")
    mild = NAMED_SETS["robot_rooms"][1][0].effects
    for index in range(count):
        place = places[index % len(places)]
        spec = SequenceSpec(place, motion, frames=frames, split="test", effects=mild)
        sequence = _generated(sized(spec, size), seed, index)
        name = f"{place} {motion}, seed {seed}, {index}"
        yield film(name, sequence, size, device, fine=False, taught=taught)


def _generated(spec: SequenceSpec, seed: int, index: int) -> Sequence:
    """Generate the sequence. If a seed does not lead to a path, try the next one."""
    for attempt in range(ATTEMPTS):
        with suppress(ValueError):
            return generate(spec, seed + 1_000_000 * attempt, index)
    raise ValueError(f"no path found for {spec} with {ATTEMPTS} seeds, starting with {seed}")


def sized(spec: SequenceSpec, size: tuple[int, int]) -> SequenceSpec:
    return replace(spec, width=OVERSAMPLED * size[0], height=OVERSAMPLED * size[1])
