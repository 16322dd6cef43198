"""What stands in a place and hangs on its walls. Nothing is put where the camera will pass."""

from __future__ import annotations

import math

import numpy as np

from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.places.floor_things import fill_room, fill_street
from loger_ros.world.places.ground import Ground
from loger_ros.world.places.layout import Layout
from loger_ros.world.places.wall_things import dress


def furnish(builder: Builder, layout: Layout, ground: Ground, movers: int = 0) -> None:
    for side in layout.sides:
        dress(builder, layout, side, ground)
    if layout.kind == "rooms":
        for low, high in layout.floors:
            fill_room(builder, low, high, ground)
    if layout.kind == "street":
        fill_street(builder, layout, ground)
    if layout.ceiling is not None:
        glass = builder.skin("ceiling", None)
        bright = Skin(glass.texture, None, (2.2, 2.2, 2.0))
        for x, y in layout.lamps:
            builder.box((x, y, layout.ceiling - 0.03), (0.3, 0.3, 0.03), bright)
    for _ in range(movers):
        _walker(builder, layout, ground)


def _walker(builder: Builder, layout: Layout, ground: Ground) -> None:
    """Place a person who walks back and forth, if there is room for it off the path."""
    rng = builder.rng
    left, low, right, high = layout.bounds
    for _ in range(60):
        x, y = rng.uniform(left + 0.6, right - 0.6), rng.uniform(low + 0.6, high - 0.6)
        yaw, reach = rng.uniform(0, np.pi), rng.uniform(0.4, 1.2)
        if _in_wall(layout, x, y, reach + 0.35) or not ground.free(x, y, (reach + 0.3, 0.3), yaw):
            continue
        ground.take(x, y, (reach + 0.3, 0.3))
        sweep = (reach * math.cos(yaw), reach * math.sin(yaw), 0.0, 4 * reach / rng.uniform(0.5, 1.2))
        builder.cylinder((x, y, 0.75), (0.2, 0.2, 0.7), builder.skin("fabric", 0.6), sweep)
        builder.ellipsoid((x, y, 1.58), (0.11, 0.11, 0.15), builder.skin("bark", 0.5), sweep)
        return


def _in_wall(layout: Layout, x: float, y: float, room: float) -> bool:
    """Within ``room`` of a wall, or inside a block."""
    if layout.kind == "rooms":
        return not any(
            low[0] + room < x < high[0] - room and low[1] + room < y < high[1] - room
            for low, high in layout.floors
        )
    point = np.array([x, y])
    for side in layout.sides:
        along = side.end - side.start
        length = np.linalg.norm(along)
        t = np.clip((point - side.start) @ along / length**2, 0, 1)
        if np.linalg.norm(point - side.start - t * along) < room:
            return True
    return not any(
        (point >= area.low - 1.5).all() and (point <= area.high + 1.5).all() for area in layout.areas
    )
