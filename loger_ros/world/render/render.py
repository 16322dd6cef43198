"""The renderer: from scenes and camera poses to colour, depth and a mask of what moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.world.render.cast import cast
from loger_ros.world.render.shade import shade
from loger_ros.world.render.stage import Stage
from loger_ros.world.render.tiling import TiledRays
from loger_ros.world.render.views import Views

# Pixels cast at once, and shaded at once: a CPU casts best in big batches (there are many small operations)
# and shades best in its cache (there are many big ones); a GPU must be filled.
PASS = {"cpu": (160_000, 40_000), "cuda": (8_000_000, 8_000_000)}


@dataclass(frozen=True, eq=False)
class Rendered:
    rgb: Tensor  # (B, 3, H, W) float32, 0..1 and beyond where the light is strong
    depth: Tensor  # (B, H, W) float32 metres along the optical axis; infinite in the sky
    moving: Tensor  # (B, H, W) bool: the surface moves by itself


def render(stage: Stage, views: Views, rays: TiledRays) -> Rendered:
    """What every view sees. The result of a frame does not depend on the others in the batch."""
    step = max(1, _pixels(stage)[0] // (rays.height * rays.width))
    with torch.inference_mode():  # its operations cost a tenth less
        parts = [_render(stage, views.part(i, i + step), rays) for i in range(0, len(views), step)]
    return Rendered(  # joined outside, so that the results are ordinary tensors that can be trained on
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.depth for part in parts]),
        torch.cat([part.moving for part in parts]),
    )


def _render(stage: Stage, views: Views, rays: TiledRays) -> Rendered:
    hits = cast(stage, views, rays)
    step = max(1, _pixels(stage)[1] // (rays.height * rays.width))
    starts = range(0, len(views), step)
    shaded = [shade(stage, views.part(i, i + step), rays, hits.part(i, i + step)) for i in starts]
    rgb = torch.cat([rays.to_images(colour).transpose(0, 1) for colour, _ in shaded])
    depth = torch.cat([rays.to_images(depth) for _, depth in shaded])
    moving = torch.zeros_like(depth, dtype=torch.bool)
    if stage.moving.any():
        numbers = hits.shape.view(len(views), -1)
        moves = stage.moving[views.scene].gather(1, numbers) & hits.hit.view_as(numbers)
        moving = rays.to_images(moves.view(len(views), rays.tiles, -1))
    return Rendered(rgb, depth, moving)


def _pixels(stage: Stage) -> tuple[int, int]:
    return PASS.get(stage.device.type, PASS["cuda"])
