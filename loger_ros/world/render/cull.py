"""Which shapes a tile may see, and from which depth on. The answers are never too strict."""

from __future__ import annotations

import torch
from torch import Tensor

from loger_ros.world.render.stage import Stage
from loger_ros.world.render.tiling import TiledRays
from loger_ros.world.render.views import Views

NEAR, FAR = 0.01, 1e6  # metres; a depth beyond is a miss
HUGE = 1e30
TINY = 1e-12
MARGIN = 1e-4  # relative, for rounding


def in_image(stage: Stage, views: Views, rays: TiledRays, middle: Tensor) -> Tensor:
    """Which shapes may be in the image of any of the frames: a first, coarse choice by their spheres. (K,)"""
    radius = stage.radius[views.scene]  # (B, K)
    bounds = rays.bounds[views.camera]
    low, high = bounds.amin(1), bounds.amax(1)  # (B, 4)
    near = (middle[..., 2] + radius > NEAR) & stage.present[views.scene]
    for axis in (0, 1):
        for bound, side in ((low[:, 2 * axis, None], 1.0), (high[:, 2 * axis + 1, None], -1.0)):
            reach = radius * (1 + bound * bound).sqrt()
            near &= side * (middle[..., axis] - bound * middle[..., 2]) + reach >= -1e-4
    return near.any(0)


def visible_from(
    stage: Stage,
    views: Views,
    rays: TiledRays,
    rotation: Tensor,
    middle: Tensor,
    origin: Tensor,
    shapes: Tensor,
) -> Tensor:
    """The least depth at which a tile can meet a shape's box; HUGE outside the tile's pyramid. (B, T, shapes)

    ``middle`` (B, K, 3) are the shapes in camera axes, ``origin`` (B, K, 3) the camera in theirs.
    """
    middle, origin = middle[:, shapes], origin[:, shapes]
    axes = stage.axes[views.scene[:, None], shapes]  # (B, shapes, 3, 3)
    axes = (axes[..., None] * rotation[:, None, None]).sum(-2)  # rows in camera axes
    depth, reach = middle[..., 2], axes[..., 2].abs().sum(-1)  # (B, shapes)
    bounds = rays.bounds[views.camera][..., None]  # (B, T, 4, 1)

    def inside(axis: int, bound: Tensor, side: float) -> Tensor:
        """Some of the box lies on the inner side of the plane ``axis = bound * z``."""
        along = (axes[:, None, :, :, axis] - bound[..., None] * axes[:, None, :, :, 2]).abs().sum(-1)
        return side * (middle[:, None, :, axis] - bound * depth[:, None]) + along >= -1e-4

    seen = inside(0, bounds[:, :, 0], 1.0) & inside(0, bounds[:, :, 1], -1.0)
    seen &= inside(1, bounds[:, :, 2], 1.0) & inside(1, bounds[:, :, 3], -1.0)
    front = depth + reach > NEAR
    seen &= (front & stage.present[views.scene[:, None], shapes])[:, None]
    least = torch.maximum((depth - reach).clamp_min(0)[:, None], _entered(axes, origin, bounds))
    return least.masked_fill(~seen | (least > FAR), HUGE)


def _entered(axes: Tensor, origin: Tensor, bounds: Tensor) -> Tensor:
    """The least depth at which any ray of a tile can be between all pairs of a box's faces. (B, T, K)

    In unit axes a ray's direction lies within an interval, and it must cover the gap to the nearer face.
    """
    low, high = bounds[:, :, 0::2], bounds[:, :, 1::2]  # (B, T, 2, 1): of x and y
    middle, spread = (low + high) / 2, (high - low) / 2
    unit = axes / axes.square().sum(-1, keepdim=True)  # (B, K, 3, 3): camera axes to unit axes
    entered = torch.zeros((), device=axes.device)
    for i in range(3):
        x, y, z = (unit[:, None, :, i, j] for j in range(3))  # (B, 1, K)
        speed = x * middle[:, :, 0] + y * middle[:, :, 1] + z  # (B, T, K)
        slack = x.abs() * spread[:, :, 0] + y.abs() * spread[:, :, 1]
        o = origin[:, None, :, i]
        gap = (o.abs() - 1).clamp_min(0)
        fastest = (slack - speed * o.sign()).clamp_min(0)  # towards the box
        entered = torch.maximum(entered, gap * (1 - MARGIN) / (fastest + TINY))
    return entered
