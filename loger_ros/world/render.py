"""The renderer: scenes and camera poses in; colour, depth and the mask of what moves out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.world.cast import Views, cast
from loger_ros.world.shade import shade
from loger_ros.world.stage import Stage
from loger_ros.world.tiling import TiledRays

# Pixels cast at once, and shaded at once: a CPU casts best in big batches (there are many small operations)
# and shades best in its cache (there are many big ones); a GPU wants to be filled.
PASS = {"cpu": (150_000, 40_000), "cuda": (8_000_000, 8_000_000)}


@dataclass(frozen=True, eq=False)
class Rendered:
    rgb: Tensor  # (B, H, W, 3) float32, 0..1 and beyond where the light is strong
    depth: Tensor  # (B, H, W) float32 metres along the optical axis; infinite in the sky
    moving: Tensor  # (B, H, W) bool: the surface moves of itself


def render(stage: Stage, views: Views, rays: TiledRays) -> Rendered:
    """What every view sees. The result of a frame does not depend on the others in the batch."""
    step = max(1, _pixels(stage)[0] // (rays.height * rays.width))
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
    step = max(1, _pixels(stage)[1] // (rays.height * rays.width))
    starts = range(0, len(views), step)
    shaded = [shade(stage, views.part(i, i + step), rays, hits.part(i, i + step)) for i in starts]
    rgb = torch.cat([colour.permute(1, 2, 3, 0) for colour, _ in shaded])  # (B, T, P, 3)
    depth = torch.cat([depth for _, depth in shaded])
    numbers = hits.shape.view(len(views), -1)
    if bool(stage.moving.any()):
        moves = stage.moving[views.scene].gather(1, numbers) & hits.hit.view_as(numbers)
    else:
        moves = torch.zeros_like(numbers, dtype=torch.bool)
    return Rendered(rays.to_images(rgb), rays.to_images(depth), rays.to_images(moves.view_as(depth)))


def _pixels(stage: Stage) -> tuple[int, int]:
    return PASS.get(stage.device.type, PASS["cuda"])
