"""All textures of a split as one packed mip pyramid, and the bilinear look-up in it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from loger_ros.world.paint.textures import paint, roster

SIZE = 256  # texels
RED_BLUE = 0x00FF00FF


@dataclass(frozen=True, eq=False)
class Atlas:
    """Texture i, at a width of m texels (a power of two), begins at ``texels[2 i size² + m²]``."""

    texels: Tensor  # int32: red in bits 16..23, green in 8..15, blue in 0..7
    size: int
    names: tuple[str, ...]
    _painted: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sample(
        self, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Red, green, blue (N,) in 0..1 at (u, v) in textures; ``footprint``: width of a pixel in texels."""
        # The exponent of a float is the floor of its binary logarithm; 1.41 rounds to the nearest level.
        ratio = (1.41421356 * self.size / footprint.clamp_min(1e-6)).clamp(1, self.size)
        width = torch.ones_like(texture) << ((ratio.view(torch.int32) >> 23) - 127)
        wrap = width - 1
        x, y = u * width - 0.5, v * width - 0.5
        left, top = x.floor(), y.floor()
        fx, fy = ((x - left) * 256).int(), ((y - top) * 256).int()
        left, top = left.int(), top.int()
        base = texture * (2 * self.size * self.size) + width * width
        upper, lower = base + (top & wrap) * width, base + ((top + 1) & wrap) * width
        right = (left + 1) & wrap
        left = left & wrap
        w11 = (fx * fy) >> 8
        weights = (256 - fx - fy + w11, fx - w11, fy - w11, w11)  # their sum is 256
        red_blue = green = torch.zeros_like(texture)
        for index, weight in zip(
            (upper + left, upper + right, lower + left, lower + right), weights, strict=True
        ):
            texel = self.texels.index_select(0, index)
            red_blue = red_blue + (texel & RED_BLUE) * weight
            green = green + ((texel >> 8) & 0xFF) * weight
        full = 1 / (255 * 256)
        return ((red_blue >> 16) & 0xFFFF) * full, green * full, (red_blue & 0xFFFF) * full

    def ensure(self, numbers: Iterable[int]) -> None:
        """Paint the textures of these numbers that are not painted yet."""
        with self._lock:
            for number in sorted(set(numbers) - self._painted):
                row = torch.from_numpy(_pyramid(self.names[number], self.size))
                self.texels[number * len(row) : (number + 1) * len(row)] = row.to(self.texels.device)
                self._painted.add(number)


@lru_cache(maxsize=4)
def atlas(split: str, device: torch.device) -> Atlas:
    """One for each split and device, empty at first: a texture is painted when a stage first needs it."""
    names = tuple(roster(split))
    texels = torch.zeros(len(names) * 2 * SIZE * SIZE, dtype=torch.int32, device=device)
    return Atlas(texels, SIZE, names)


def _pyramid(name: str, size: int) -> np.ndarray:
    """All widths of a texture, in the order that :class:`Atlas` describes."""
    image = paint(name, size).astype(np.float32)  # (size, size, 3), 0..255
    row = np.zeros(2 * size * size, np.int32)
    width = size
    while width:
        red, green, blue = np.moveaxis((image + 0.5).astype(np.int32), -1, 0)
        row[width * width : 2 * width * width] = ((red << 16) | (green << 8) | blue).reshape(-1)
        width //= 2
        if width:
            image = image.reshape(width, 2, width, 2, 3).mean((1, 3))
    return row
