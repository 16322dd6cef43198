"""What a real camera does to light. Every number follows from (seed, frame, pixel), in any batch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Effects:
    """All strengths are 0 for a perfect camera."""

    exposure: float = 0.0  # deviation of the slow exposure change, in stops
    noise: float = 0.0  # deviation of the pixel noise at full light, 0..1
    blur: float = 0.0  # share of the frame interval during which the shutter is open
    vignetting: float = 0.0  # loss of light in the corners, 0..1
    dimness: float = 0.0  # share of the light that is missing, 0..1; the noise stays that of the sensor
    flicker: float = 0.0  # depth of the brightness bands that roll over the image under mains light, 0..1

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 <= value <= (2 if entry.name == "exposure" else 1):
                raise ValueError(f"effect {entry.name} = {value} is out of its range")


PRESETS = {
    "none": Effects(),
    "mild": Effects(exposure=0.15, noise=0.012, vignetting=0.2, flicker=0.02),  # a decent camera
    "harsh": Effects(exposure=0.5, noise=0.04, blur=0.6, vignetting=0.5, flicker=0.1),
}

BLUR_SAMPLES = 5
EXPOSURE_PERIOD = 40.0  # frames
FLICKER_BANDS = 2.3  # per image height
FLICKER_ROLL = 0.137  # bands per frame


def develop(light: Tensor, effects: Effects, frames: Tensor, seed: int) -> Tensor:
    """Light (B, 3, H, W), 1 is white, to images (B, H, W, 3) uint8. ``frames`` (B,): their numbers."""
    height, width = light.shape[2:]
    frames = frames.to(light.device)
    if effects.exposure:
        light = light * exposure_gain(effects.exposure, frames, seed)[:, None, None, None]
    if effects.vignetting:
        y = torch.linspace(-1, 1, height, device=light.device)[:, None]
        x = torch.linspace(-1, 1, width, device=light.device)[None]
        light = light * (1 - effects.vignetting * ((x * x + y * y) / 2) ** 1.5)
    if effects.flicker:
        rows = torch.arange(height, device=light.device, dtype=torch.float64) / height
        phase = FLICKER_BANDS * rows + FLICKER_ROLL * frames[:, None].double()
        light = light * (1 + effects.flicker * torch.sin(2 * torch.pi * phase)).float()[:, None, :, None]
    light = (light * (1 - effects.dimness)).clamp(0, 1)
    if effects.noise:
        level = effects.noise * (0.15 + 0.85 * light).sqrt()  # read noise and shot noise
        light = (light + level * pixel_noise((3, height, width), frames, seed)).clamp(0, 1)
    return (light * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def exposure_gain(deviation: float, frames: Tensor, seed: int) -> Tensor:
    """A slow random walk of the gain: the sum of three waves whose phases come from the seed. (B,)"""
    phases = np.random.default_rng([seed, 1]).uniform(0, 2 * np.pi, 3)
    time = frames.double() / EXPOSURE_PERIOD
    rates = torch.tensor([1.0, 1.7, 3.1], dtype=torch.float64, device=frames.device)
    waves = torch.sin(time[:, None] * rates + torch.from_numpy(phases).to(frames.device)).sum(1)
    return torch.exp2(deviation * waves / 1.225).float()


def pixel_noise(shape: tuple[int, int, int], frames: Tensor, seed: int) -> Tensor:
    """Noise of deviation 1, triangular in distribution, by hashing the index of each value. (B, *shape)"""
    count = shape[0] * shape[1] * shape[2]
    value = torch.arange(count, device=frames.device, dtype=torch.int32)
    start = torch.tensor([_hash_seed(seed, frame) for frame in frames.tolist()], dtype=torch.int32)
    mixed = value * -1640531527 + start.to(frames.device)[:, None]  # int32 arithmetic wraps around
    for shift, factor in ((15, 739982445), (12, 695872825)):
        mixed = (mixed ^ ((mixed >> shift) & ((1 << (32 - shift)) - 1))) * factor
    mixed = mixed ^ ((mixed >> 15) & 0x1FFFF)
    uniform = ((mixed & 0xFFFF) + ((mixed >> 16) & 0xFFFF)).float() / 65536 - 1  # -1..1, variance 1/6
    return (uniform * 6**0.5).view(len(frames), *shape)


def _hash_seed(seed: int, frame: int) -> int:
    return int(np.random.SeedSequence([seed, frame]).generate_state(1, np.uint32)[0].astype(np.int32))
