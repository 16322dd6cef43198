"""Images in tiles: a tile looks at few shapes, and its pixels lie side by side in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TILE_WIDTH, TILE_HEIGHT = 28, 21  # pixels, about; measured best on 112x84 and harmless on 640x480


@dataclass(frozen=True, eq=False)
class TiledRays:
    """The viewing directions (x, y, 1) of C cameras of equal size; the last tiles repeat edge pixels."""

    height: int
    width: int
    columns: int
    rows: int
    tile_height: int
    tile_width: int
    xy: Tensor  # (2, C, T, P): T tiles of P pixels
    bounds: Tensor  # (C, T, 4): the least and greatest x, then y, of each tile
    focal: Tensor  # (C, T, P): pixels per unit of x or y

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    def to_images(self, tiled: Tensor) -> Tensor:
        """(*, T, P) to (*, H, W)."""
        grid = tiled.reshape(-1, self.rows, self.columns, self.tile_height, self.tile_width).transpose(2, 3)
        image = grid.reshape(-1, self.rows * self.tile_height, self.columns * self.tile_width)
        return image[:, : self.height, : self.width].reshape(*tiled.shape[:-2], self.height, self.width)


def tile_rays(rays: Tensor) -> TiledRays:
    """``rays`` (C, H, W, 2): (x, y) of every pixel's direction (x, y, 1)."""
    _, height, width, _ = rays.shape
    columns, rows = max(1, round(width / TILE_WIDTH)), max(1, round(height / TILE_HEIGHT))
    tile_width, tile_height = math.ceil(width / columns), math.ceil(height / rows)
    columns, rows = math.ceil(width / tile_width), math.ceil(height / tile_height)
    x = torch.arange(columns * tile_width, device=rays.device).clamp(max=width - 1)
    y = torch.arange(rows * tile_height, device=rays.device).clamp(max=height - 1)

    def tiled(image: Tensor) -> Tensor:  # (C, H, W) → (C, T, P)
        grid = image[:, y][:, :, x].reshape(-1, rows, tile_height, columns, tile_width)
        return grid.transpose(2, 3).reshape(len(image), rows * columns, tile_height * tile_width).contiguous()

    xy = torch.stack([tiled(rays[..., 0]), tiled(rays[..., 1])])
    bounds = torch.stack([xy[0].amin(-1), xy[0].amax(-1), xy[1].amin(-1), xy[1].amax(-1)], -1)
    if width > 1:
        step = (rays[:, :, 1:, 0] - rays[:, :, :-1, 0]).abs()
        step = torch.cat([step, step[:, :, -1:]], -1)
    else:
        step = torch.full_like(rays[..., 0], 1.0)
    return TiledRays(
        height, width, columns, rows, tile_height, tile_width, xy, bounds, tiled(1 / step.clamp_min(1e-6))
    )
