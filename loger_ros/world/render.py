"""The renderer: scenes and camera poses in; colour, depth and the mask of what moves out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.world.cast import Views, cast
from loger_ros.world.shade import shade
from loger_ros.world.stage import Stage
from loger_ros.world.tiling import TiledRays

PIXELS_PER_PASS = {"cpu": 150_000, "cuda": 8_000_000}  # a CPU works in its cache, a GPU wants to be filled


@dataclass(frozen=True, eq=False)
class Rendered:
    rgb: Tensor  # (B, H, W, 3) float32, 0..1 and beyond where the light is strong
    depth: Tensor  # (B, H, W) float32 metres along the optical axis; infinite in the sky
    moving: Tensor  # (B, H, W) bool: the surface moves of itself


def render(stage: Stage, views: Views, rays: TiledRays) -> Rendered:
    """What every view sees. The result of a frame does not depend on the others in the batch."""
    limit = PIXELS_PER_PASS.get(stage.device.type, PIXELS_PER_PASS["cuda"])
    step = max(1, limit // (rays.height * rays.width))
    parts = [_render(stage, views.part(i, i + step), rays) for i in range(0, len(views), step)]
    if len(parts) == 1:
        return parts[0]
    return Rendered(
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.depth for part in parts]),
        torch.cat([part.moving for part in parts]),
    )


def _render(stage: Stage, views: Views, rays: TiledRays) -> Rendered:
    hits = cast(stage, views, rays)
    rgb, depth = shade(stage, views, rays, hits)
    numbers = hits.shape.view(len(views), -1)
    if bool(stage.moving.any()):
        moves = stage.moving[views.scene].gather(1, numbers) & hits.hit.view_as(numbers)
    else:
        moves = torch.zeros_like(numbers, dtype=torch.bool)
    return Rendered(
        rays.to_images(rgb.permute(1, 2, 3, 0)), rays.to_images(depth), rays.to_images(moves.view_as(depth))
    )
