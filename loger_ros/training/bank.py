"""Training clips: rendered once from the procedural world, kept on one device, cached in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d

from loger_ros.files import locked
from loger_ros.training.recipe import Clips
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.sequences import MOTIONS, SequenceSpec

_log = logging.getLogger(__name__)
_BLOCK = 20  # clips that are rendered before they are saved
_VERSION = "4"  # of the rendering; after a change, old cache files are not used


@dataclass(frozen=True, eq=False)
class Bank:
    rgb: Tensor  # (S, F, 3, H, W) uint8
    depth: Tensor  # (S, F, H, W) float16 metres
    poses: Tensor  # (S, F, 4, 4) float32 T_world_camera, the origin at the first camera of each clip
    intrinsics: Tensor  # (S, 4) float32 fx, fy, cx, cy in pixels; (0, 0) is the centre of the first pixel
    unit: Tensor  # (S,) float32 metres: the height of a robot's camera; 0: nothing tells the scale
    motion: Tensor  # (S,) int64, index into MOTIONS

    @property
    def device(self) -> torch.device:
        return self.rgb.device

    def __len__(self) -> int:
        return len(self.rgb)

    def moving(self, motions: tuple[str, ...]) -> Tensor:
        """Return the indices of the clips with these motions, on the CPU."""
        wanted = torch.tensor([MOTIONS.index(motion) for motion in motions])
        clips = torch.isin(self.motion.cpu(), wanted).nonzero()[:, 0]
        if not len(clips):
            raise ValueError(f"no clip of the recipe moves like {', '.join(motions)}: see clips.motions")
        return clips


class RunError(RuntimeError):
    """A run that cannot continue as it is; the message says what can be done."""


class OutOfTime(Exception):
    """The time is up and clips are missing; those that are rendered are kept."""


def make_bank(
    clips: Clips,
    device: torch.device | str,
    cache: Path | None = None,
    rank: int = 0,
    world: int = 1,
    until: float = math.inf,
) -> Bank:
    """The same clips give the same bank.

    cache: a folder in which ``world`` processes share the work. until: monotonic time after which no process
    starts on more clips, except its first ones; if clips are then missing, all of them raise OutOfTime.
    """
    if cache is None:
        return _render(clips, range(clips.count), device)
    asked = {name: value for name, value in dataclasses.asdict(clips).items() if value is not None}
    key = hashlib.sha256(json.dumps([_VERSION, asked]).encode()).hexdigest()[:16]
    file = cache / f"clips-{key}.safetensors"
    numbers = range(clips.count)
    blocks = {
        cache / f"clips-{key}-{which[0]}-{which[-1]}.safetensors": which
        for which in (numbers[first : first + _BLOCK] for first in numbers[::_BLOCK])
    }
    cache.mkdir(parents=True, exist_ok=True)
    lock = _locked(cache) if rank == 0 else None
    try:
        if not _whole(file):
            missing = [block for block in list(blocks)[rank::world] if not _whole(block)]
            for block in missing:
                if block is missing[0] or time.monotonic() < until:
                    _save(_render(clips, blocks[block], device), block)
        _wait(world)
        complete = file.exists() or all(block.exists() for block in blocks)
        _wait(world)  # until all have looked
        if not complete:
            raise OutOfTime
        if rank == 0:
            if not file.exists():
                _save(_joined(list(blocks), clips.count), file)
            for block in cache.glob(f"clips-{key}-*"):
                block.unlink()
    finally:
        if lock is not None:
            os.close(lock)
    _wait(world)
    return _load(file, device)


def _locked(cache: Path) -> int:
    try:
        return locked(cache / "lock")
    except BlockingIOError:
        raise RunError(
            f"{cache} is already being filled by another process: wait for it, or train into another folder"
        ) from None


def _wait(world: int) -> None:
    """Wait for the other processes."""
    if world > 1:
        dist.barrier()


def _whole(file: Path) -> bool:
    """Whether a file is intact; delete a damaged one, so that it is rendered again."""
    try:
        with safe_open(file, "pt"):
            return True
    except FileNotFoundError:
        return False
    except SafetensorError as error:
        _log.warning("%s is damaged (%s): its clips are rendered again", file, error)
        file.unlink(missing_ok=True)
        return False


def _save(bank: Bank, file: Path) -> None:
    part = file.with_suffix(".part")  # overwrites one left by a killed process
    try:
        save_file({field.name: getattr(bank, field.name).cpu() for field in dataclasses.fields(Bank)}, part)
    except SafetensorError as error:  # such as a full disk
        raise OSError(f"{part} cannot be written: {error}") from error
    with part.open("rb") as written:  # before the blocks that it was made of are deleted
        os.fsync(written.fileno())
    part.replace(file)


def _load(file: Path, device: torch.device | str) -> Bank:
    with safe_open(file, "pt", device=str(device)) as opened:
        return Bank(*(opened.get_tensor(field.name) for field in dataclasses.fields(Bank)))


def _joined(files: list[Path], count: int) -> Bank:
    """Join one column at a time, so that not everything is in memory twice."""
    columns = []
    for field in dataclasses.fields(Bank):
        column, filled = None, 0
        for file in files:
            with safe_open(file, "pt") as opened:
                rows = opened.get_tensor(field.name)
            column = rows.new_empty((count, *rows.shape[1:])) if column is None else column
            column[filled : filled + len(rows)] = rows
            filled += len(rows)
        columns.append(column)
    return Bank(*columns)  # type: ignore[arg-type]


def _render(clips: Clips, which: range, device: torch.device | str) -> Bank:
    """Render into memory allocated once: small tensors kept among large temporary ones fragment the heap."""
    started = time.monotonic()
    columns: list[Tensor] = []
    for row, number in enumerate(which):
        values = _render_clip(clips, number, device)
        columns = columns or [value.new_empty((len(which), *value.shape)) for value in values]
        for column, value in zip(columns, values, strict=True):
            column[row] = value
    rate = len(which) * clips.frames / (time.monotonic() - started)
    _log.info("rendered clips %d to %d of %d, %.0f frames/s", which[0], which[-1], clips.count, rate)
    return Bank(*columns)


def _render_clip(clips: Clips, index: int, device: torch.device | str) -> tuple[Tensor, ...]:
    try:
        sequence = generate(_spec(clips, index), clips.seed, index)
    except ValueError as error:
        raise RunError(f"clip {index} of the recipe: {error}") from error
    clip = sequence.render(device=device)
    width, height = clips.image_size
    factor = clips.render_size[0] // width
    rgb = clip.rgb.permute(0, 3, 1, 2)
    depth = clip.depth
    if factor > 1:
        rgb = avg_pool2d(rgb.float(), factor).round().to(torch.uint8)
        depth = avg_pool2d(depth[:, None], factor)[:, 0]
    camera = clip.camera.resized(width, height)
    poses = torch.from_numpy(clip.T_world_camera).clone()
    poses[:, :3, 3] -= poses[0, :3, 3].clone()
    return (
        rgb.contiguous(),
        depth.half(),
        poses.float().to(device),
        torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], device=device),
        torch.tensor(sequence.mount.height if sequence.mount else 0.0, device=device),
        torch.tensor(MOTIONS.index(sequence.spec.motion), device=device),
    )


def _spec(clips: Clips, index: int) -> SequenceSpec:
    return SequenceSpec(
        place=clips.places[index % len(clips.places)],
        motion=clips.motion_of(index),
        frames=clips.frames,
        split="train",
        effects=PRESETS[
            clips.effects[index // (len(clips.places) * len(clips.motions)) % len(clips.effects)]
        ],
        width=clips.render_size[0],
        height=clips.render_size[1],
        hfov=clips.hfov,
        camera_height=clips.height_of(clips.seed, index),
        camera_pitch=clips.camera_pitch,
        camera_forward=clips.forward_of(clips.seed, index),
    )
