"""Which surface each pixel sees. Tiles drop the shapes they cannot see, then take the rest front to back.

Every number of a pixel comes from element-wise operations on its own ray, so the answer does not depend
on what else is in the batch. Choosing avoids ``torch.where``, which costs as much as ten additions on a CPU:
the rank of a shape is packed into the low bits of its depth, and one integer minimum keeps both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.world.render.cull import FAR, HUGE, NEAR, in_image, visible_from
from loger_ros.world.render.stage import Stage
from loger_ros.world.render.tiling import TiledRays
from loger_ros.world.render.views import Views

TINY = 1e-12
# Shapes one tile can handle. Depth keeps 14 bits for choosing (0.3 mm at 5 m); shading computes it again.
RANK_BITS = 9
BLOCK = 64  # pairs of a tile and a shape that are worth one round
ROWS = {"cpu": 96, "cuda": 1 << 30}  # tiles taken at once: what a core's cache holds, or all
NO_HIT = 0x7F800000  # the bits of infinity
POSITIVE = 0x7FFFFFFF  # everything but the sign bit: a stray NaN must not win an integer minimum

Interval = Callable[[list[Tensor], list[Tensor]], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Hits:
    """For every pixel of B x T tiles of P pixels."""

    direction: list[Tensor]  # 3 x (B * T, P): world axes, of length 1 / cos of the angle to the optical axis
    shape: Tensor  # (B * T, P) int64 number of the shape within its scene; 0 where nothing is hit
    hit: Tensor  # (B * T, P) bool
    origin: Tensor  # (B, K, 3): the camera in each shape's unit axes

    def part(self, start: int, stop: int) -> Hits:
        """Return the hits of some of the frames."""
        tiles = len(self.shape) // len(self.origin)
        rows = slice(start * tiles, stop * tiles)
        direction = [component[rows] for component in self.direction]
        return Hits(direction, self.shape[rows], self.hit[rows], self.origin[start:stop])


def cast(stage: Stage, views: Views, rays: TiledRays) -> Hits:
    batch, device = len(views), stage.device
    rotation = views.pose[:, :3, :3].float()  # (B, 3, 3)
    centre = stage.centre[views.scene] + swing(stage, views) - views.pose[:, None, :3, 3]  # (B, K, 3)
    centre = centre.float()
    unit = stage.to_unit[views.scene]  # (B, K, 5)
    origin = -torch.stack(
        [
            unit[..., 0] * centre[..., 0] + unit[..., 1] * centre[..., 1],
            unit[..., 2] * centre[..., 0] + unit[..., 3] * centre[..., 1],
            unit[..., 4] * centre[..., 2],
        ],
        -1,
    )  # (B, K, 3)
    x, y = rays.xy[0, views.camera], rays.xy[1, views.camera]  # (B, T, P)
    r = rotation[:, None, None]
    direction = [
        (r[..., i, 0] * x + r[..., i, 1] * y + (r[..., i, 2] + TINY)).flatten(0, 1) for i in range(3)
    ]

    key = torch.full(direction[0].shape, NO_HIT, dtype=torch.int32, device=device)  # (B * T, P)
    far = torch.full((len(key),), HUGE, device=device)
    frame = torch.arange(batch, device=device).repeat_interleave(rays.tiles)  # (B * T,)
    middle = (centre[..., None] * rotation[:, None]).sum(-2)  # (B, K, 3) camera axes
    seen = in_image(stage, views, rays, middle)  # (K,)
    orders: list[Tensor] = []
    first = 0
    for count, interval in zip(stage.counts, (_box, _cylinder, _ellipsoid), strict=True):
        shapes = seen[first : first + count].nonzero()[:, 0] + first
        first += count
        if len(shapes) == 0:
            continue
        nearest = visible_from(stage, views, rays, rotation, middle, origin, shapes)  # (B, T, shapes)
        near, order = nearest.flatten(0, 1).sort(dim=-1, stable=True)
        rounds = int((near < HUGE).sum(-1).max())
        near, order = near[:, :rounds], shapes[order[:, :rounds]]
        _march(interval, near, order, len(orders), origin, unit, frame, direction, key, far)
        orders += list(order.unbind(-1))
    if len(orders) >= 1 << RANK_BITS:
        raise ValueError(f"{len(orders)} shapes are in the view of one tile: the scene is too crowded")

    hit = key.view(torch.float32) < FAR
    if not orders:
        return Hits(direction, torch.zeros_like(key, dtype=torch.int64), hit, origin)
    rank = (key & ((1 << RANK_BITS) - 1)).long()
    tile = torch.arange(len(key), device=device)[:, None] * len(orders)
    shape = torch.stack(orders, -1).view(-1).index_select(0, (rank + tile).view(-1)).view_as(rank)
    return Hits(direction, shape * hit, hit, origin)


def swing(stage: Stage, views: Views) -> Tensor:
    """How far each moving shape is from its middle: a triangle wave, of constant speed. (B, K, 3)"""
    sweep = stage.sweep[views.scene]
    period = sweep[..., 3].clamp_min(1e-6)
    phase = torch.remainder(views.seconds[:, None] / period + 0.25, 1.0)
    return sweep[..., :3] * (1 - 4 * (phase - 0.5).abs())[..., None]


def _march(
    interval: Interval,
    near: Tensor,
    order: Tensor,
    first_rank: int,
    origin: Tensor,
    unit: Tensor,
    frame: Tensor,
    direction: list[Tensor],
    key: Tensor,
    far: Tensor,
) -> None:
    """Take each tile's shapes front to back; a tile is done when the next begins behind all it has seen.

    When few tiles are left, each takes several shapes at once.
    """
    depth_bits = POSITIVE & (-1 << RANK_BITS)
    ranks = torch.arange(near.shape[1], dtype=torch.int32, device=near.device)
    most = ROWS.get(near.device.type, ROWS["cuda"])
    i = 0
    while i < near.shape[1]:
        active = (near[:, i] < far).nonzero()[:, 0]  # those still at work; `far` is HUGE until a tile is full
        if len(active) == 0:
            break
        block = min(max(1, BLOCK // len(active)), near.shape[1] - i)
        for tiles in active.split(most):
            f, s = frame[tiles, None], order[tiles, i : i + block]  # (tiles, block)
            a, b, c, d, e = unit[f, s][..., None].unbind(2)  # each (tiles, block, 1)
            o = list(origin[f, s][..., None].unbind(2))
            x, y, z = (component.index_select(0, tiles)[:, None] for component in direction)  # (tiles, 1, P)
            enter, leave = interval(o, [a * x + b * y, c * x + d * y, e * z])  # (tiles, block, P)
            # a miss or a shape behind the camera gets an enormous depth
            depth = torch.maximum(enter, torch.maximum(enter - leave, NEAR - enter) * HUGE)
            bits = (depth.view(torch.int32) & depth_bits) | (ranks[i : i + block, None] + first_rank)
            best = torch.minimum(key.index_select(0, tiles), bits.amin(1) if block > 1 else bits[:, 0])
            key.index_copy_(0, tiles, best)
            far.index_copy_(0, tiles, best.amax(-1).view(torch.float32).clamp(max=HUGE))
        i += block


def _box(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    enter, leave = _slab(o[0], d[0])
    for origin, direction in zip(o[1:], d[1:], strict=True):
        first, last = _slab(origin, direction)
        enter, leave = torch.maximum(enter, first), torch.minimum(leave, last)
    return enter, leave


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    inverse = direction.reciprocal()
    low, high = (-1 - origin) * inverse, (1 - origin) * inverse
    return torch.minimum(low, high), torch.maximum(low, high)


def _cylinder(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    enter, leave = _round(o[:2], d[:2])
    cap_enter, cap_leave = _slab(o[2], d[2])
    return torch.maximum(enter, cap_enter), torch.minimum(leave, cap_leave)


def _ellipsoid(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    return _round(o, d)


def _round(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The unit circle or sphere; a miss is an interval that ends before it begins."""
    a, b, c = d[0] * d[0], o[0] * d[0], o[0] * o[0] - 1
    for origin, direction in zip(o[1:], d[1:], strict=True):
        a, b, c = a + direction * direction, b + origin * direction, c + origin * origin
    discriminant = b * b - a * c
    root = discriminant.clamp_min(0).sqrt() + discriminant.clamp_max(0)
    inverse = a.reciprocal()
    return (-b - root) * inverse, (root - b) * inverse
