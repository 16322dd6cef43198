"""Random samples of a bank. The batch of a step is a function of its seed, so there is nothing to save."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loger_ros.training.bank import Bank

_FLAT_SENSORS = 0.25  # share of 16:9 sensors; the others are 4:3
_MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))


@dataclass(frozen=True, eq=False)
class Batch:
    images: Tensor  # (B, L, 3, H, W) float in [0, 1]
    depth: Tensor  # (B, L, H, W) metres; not finite: sky
    poses: Tensor  # (B, L, 4, 4) T_world_camera
    intrinsics: Tensor  # (B, 4) fx, fy, cx, cy
    unit: Tensor  # (B,) metres, 0: unknown

    def part(self, start: int, stop: int) -> Batch:
        """Return some of the frames."""
        frames = slice(start, stop)
        return replace(
            self, images=self.images[:, frames], depth=self.depth[:, frames], poses=self.poses[:, frames]
        )

    def slopes(self) -> Tensor:
        """(B, H, W, 2): x and y per unit of depth at every pixel."""
        height, width = self.depth.shape[-2:]
        fx, fy, cx, cy = (value.view(-1, 1, 1) for value in self.intrinsics.unbind(-1))
        x = torch.arange(width, device=self.depth.device).view(1, 1, -1)
        y = torch.arange(height, device=self.depth.device).view(1, -1, 1)
        u, v = torch.broadcast_tensors((x - cx) / fx, (y - cy) / fy)
        return torch.stack([u, v], -1)


def draw(
    bank: Bank,
    batch: int,
    length: int,
    strides: tuple[int, int],
    generator: torch.Generator,
    motions: tuple[str, ...] = ("robot",),
    views: tuple[float, float] | None = None,
    tilts: tuple[float, float] = (0.0, 0.0),
) -> Batch:
    """Return ``batch`` sub-clips of ``length`` frames, some played backwards, mirrored or in another light.

    views: horizontal fields of view in degrees; tilts: degrees that a robot's camera looks further down than
    that of the clips. Such cameras are imitated by blackening what they would not see, as the stream does
    with their images.

    Numbers are drawn on the CPU, so that every device trains on the same sequence of batches, except for the
    noise of the pixels.
    """
    clips, frames = bank.moving(motions), bank.rgb.shape[1]
    if length > frames:
        raise ValueError(f"samples of {length} frames do not fit into clips of {frames}")

    def whole(low: int, high: Tensor | int) -> Tensor:
        """Uniform integers low..high, both included."""
        span = torch.as_tensor(high) - low + 1
        return low + (torch.rand(batch, generator=generator) * span).long().clamp(max=span - 1)

    def real(low: float, high: float) -> Tensor:
        return (
            (low + (high - low) * torch.rand(batch, generator=generator)).to(bank.device).view(-1, 1, 1, 1, 1)
        )

    clip = clips[whole(0, len(clips) - 1)]
    longest = max(1, (frames - 1) // max(1, length - 1))
    stride = whole(min(strides[0], longest), min(strides[1], longest))
    start = whole(0, frames - 1 - stride * (length - 1))
    number = start[:, None] + stride[:, None] * torch.arange(length)  # (B, L)
    backwards = torch.rand(batch, generator=generator) < 0.25
    number = torch.where(backwards[:, None], number.flip(1), number).to(bank.device)
    mirrored = (torch.rand(batch, generator=generator) < 0.5).to(bank.device)
    clip = clip.to(bank.device)

    images = bank.rgb[clip[:, None], number].float() / 255
    depth = bank.depth[clip[:, None], number].float()
    poses = bank.poses[clip[:, None], number]
    intrinsics = bank.intrinsics[clip].clone()
    mirror = _MIRROR.to(bank.device)
    images = torch.where(mirrored.view(-1, 1, 1, 1, 1), images.flip(-1), images)
    depth = torch.where(mirrored.view(-1, 1, 1, 1), depth.flip(-1), depth)
    poses = torch.where(mirrored.view(-1, 1, 1, 1), mirror @ poses @ mirror, poses)
    width = images.shape[-1]
    intrinsics[:, 2] = torch.where(mirrored, width - 1 - intrinsics[:, 2], intrinsics[:, 2])

    gamma, gain, offset = 2 ** real(-0.5, 0.5), real(0.7, 1.3), real(-0.08, 0.08)
    strength = real(0, 0.02)
    own = torch.Generator(bank.device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    noise = torch.randn(images.shape, generator=own, device=bank.device) * strength
    images = images.clamp_min(1e-3) ** gamma * gain + offset + noise
    images = images.clamp(0, 1)
    if views is not None:
        angle, flat, tilt = (torch.rand(batch, generator=generator).to(bank.device) for _ in range(3))
        half = torch.deg2rad((views[0] + (views[1] - views[0]) * angle) / 2).tan()
        high = torch.where(flat < _FLAT_SENSORS, 9 / 16, 3 / 4) * half
        tilt = torch.deg2rad(tilts[0] + (tilts[1] - tilts[0]) * tilt)
        tilt = torch.where(bank.unit[clip] > 0, tilt, 0)
        seen = _seen(intrinsics, images.shape[-2:], half, high, tilt)
        images = images * seen[:, None, None]
        depth = torch.where(seen[:, None], depth, torch.inf)
    return Batch(images, depth, poses, intrinsics, bank.unit[clip])


def _seen(
    intrinsics: Tensor, size: torch.Size, half_width: Tensor, half_height: Tensor, tilt: Tensor
) -> Tensor:
    """(B, H, W) bool: what a camera sees that is tilted further down; half_*: tangents of half its angles."""
    fx, fy, cx, cy = (value.view(-1, 1, 1) for value in intrinsics.unbind(-1))
    x = (torch.arange(size[1], device=intrinsics.device) - cx) / fx
    y = (torch.arange(size[0], device=intrinsics.device).view(-1, 1) - cy) / fy
    cos, sin, half_width, half_height = (
        value.view(-1, 1, 1) for value in (tilt.cos(), tilt.sin(), half_width, half_height)
    )
    depth = cos + y * sin
    return (x.abs() <= half_width * depth) & ((y * cos - sin).abs() <= half_height * depth)
