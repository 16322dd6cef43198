"""What hangs on walls and stands against them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.places.ground import Ground, pick
from loger_ros.world.places.layout import Layout, Side

Place = tuple[float, float, float]  # x, y, yaw of a thing; its front looks along its own -y
Placing = Callable[[float, float], Place]  # by the distance along a wall and out from it
Thing = Callable[
    [Builder, Ground, Placing, float, float, float], float
]  # puts itself there; returns its width


def clutter(builder: Builder, x: float, y: float, z: float, reach: float) -> None:
    rng = builder.rng
    for _ in range(rng.integers(1, 3)):
        dx, dy = rng.uniform(-reach * 0.6, reach * 0.6, 2)
        size = rng.uniform(0.05, 0.12)
        if rng.random() < 0.4:
            builder.cylinder(
                (x + dx, y + dy, z + size), (size * 0.6, size * 0.6, size), builder.skin("metal", 0.3)
            )
        else:
            builder.box(
                (x + dx, y + dy, z + size * 0.7),
                (size, size * 0.8, size * 0.7),
                builder.skin("box"),
                rng.uniform(0, 3),
            )


def dress(builder: Builder, layout: Layout, side: Side, ground: Ground) -> None:
    rng, length = builder.rng, float(np.linalg.norm(side.end - side.start))
    along = (side.end - side.start) / length
    yaw = math.atan2(side.inward[1], side.inward[0]) + np.pi / 2  # a thing's back is to the wall
    indoors = layout.ceiling is not None

    def place(u: float, out: float) -> Place:
        x, y = side.start + along * u + side.inward * out
        return float(x), float(y), yaw

    stretches = [0.0] + [edge for gap in side.gaps for edge in gap] + [length]
    if indoors:
        skirting = builder.skin("wood", 1.0)
        for a, b in zip(stretches[::2], stretches[1::2], strict=True):
            if b - a > 0.1:
                x, y, _ = place((a + b) / 2, 0.01)
                builder.box((x, y, 0.045), ((b - a) / 2, 0.012, 0.045), skirting, yaw)
        frame = builder.skin("wood", 1.0)
        for a, b in side.gaps:
            for u in (a, b):
                x, y, _ = place(u, 0.01)
                builder.box((x, y, 1.05), (0.05, 0.02, 1.05), frame, yaw)
            x, y, _ = place((a + b) / 2, 0.01)
            builder.box((x, y, 2.13), ((b - a) / 2 + 0.05, 0.02, 0.05), frame, yaw)
    for a, b in zip(stretches[::2], stretches[1::2], strict=True):
        u = a + rng.uniform(0.3, 0.8)
        while u < b - 0.5:
            thing = pick(rng, INDOORS if indoors else OUTDOORS)
            width = thing(builder, ground, place, u, b - 0.15 - u, side.height)
            u += width + rng.uniform(0.15, 0.9 if indoors else 2.5)


def _door(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width = builder.rng.uniform(0.85, 1.0)
    if width > room:
        return 0.3
    x, y, yaw = place(u + width / 2, 0.02)
    builder.box(
        (x, y, 1.02),
        (width / 2, 0.03, 1.02),
        builder.skin("metal", 1.0),
        yaw,
        {2: builder.skin("door"), 3: builder.skin("door")},
    )
    return width


def _window(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width, tall = builder.rng.uniform(1.0, 1.8), builder.rng.uniform(0.9, 1.3)
    if width > room:
        return 0.3
    x, y, yaw = place(u + width / 2, 0.02)
    z = 0.9 + tall / 2
    skin = builder.skin("window")
    bright = Skin(skin.texture, None, (1.5, 1.5, 1.5))
    builder.box((x, y, z), (width / 2, 0.03, tall / 2), bright, yaw)
    x, y, yaw = place(u + width / 2, 0.08)
    builder.box((x, y, 0.88), (width / 2 + 0.06, 0.09, 0.02), builder.skin("wood", 1.0), yaw)
    if builder.rng.random() < 0.6:  # a radiator under it
        x, y, yaw = place(u + width / 2, 0.07)
        builder.box((x, y, 0.45), (width * 0.4, 0.05, 0.28), builder.skin("metal", 0.35), yaw)
    return width


def _picture(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width, tall = builder.rng.uniform(0.35, 1.1), builder.rng.uniform(0.35, 0.9)
    if width > room:
        return 0.3
    x, y, yaw = place(u + width / 2, 0.015)
    z = builder.rng.uniform(1.1, 1.6) if builder.rng.random() < 0.7 else builder.rng.uniform(0.6, 1.0)
    builder.box((x, y, z), (width / 2, 0.018, tall / 2), builder.skin("picture"), yaw)
    return width


def _shelf(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width, depth, tall = (
        builder.rng.uniform(0.7, 1.3),
        builder.rng.uniform(0.14, 0.19),
        builder.rng.uniform(0.9, 2.1),
    )
    x, y, yaw = place(u + width / 2, depth + 0.02)
    half = (width / 2, depth)
    if width > room or not ground.free(x, y, half, yaw):
        return 0.3
    ground.take(x, y, half)
    wood, books = builder.skin("wood", 0.8), builder.skin("shelf", tall / max(1, round(tall / 1.2)))
    builder.box((x, y, tall / 2), (*half, tall / 2), wood, yaw, {2: books, 3: books})
    return width


def _cabinet(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width, depth, tall = (
        builder.rng.uniform(0.5, 1.4),
        builder.rng.uniform(0.2, 0.3),
        builder.rng.uniform(0.4, 1.1),
    )
    x, y, yaw = place(u + width / 2, depth + 0.02)
    half = (width / 2, depth)
    if width > room or not ground.free(x, y, half, yaw):
        return 0.3
    ground.take(x, y, half)
    skin = builder.skin(str(builder.rng.choice(["wood", "metal", "box"])), builder.rng.uniform(0.4, 0.9))
    builder.box((x, y, tall / 2), (*half, tall / 2), skin, yaw)
    if builder.rng.random() < 0.7:
        clutter(builder, x, y, tall, min(half))
    return width


def _sofa(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width, depth = builder.rng.uniform(1.3, 1.9), 0.42
    x, y, yaw = place(u + width / 2, depth + 0.03)
    half = (width / 2, depth)
    if width > room or not ground.free(x, y, half, yaw):
        return 0.3
    ground.take(x, y, half)
    fabric = builder.skin("fabric", builder.rng.uniform(0.4, 0.8))
    builder.box((x, y, 0.21), (width / 2, depth, 0.21), fabric, yaw)
    back_x, back_y, _ = place(u + width / 2, 0.13)
    builder.box((back_x, back_y, 0.42), (width / 2, 0.1, 0.42), fabric, yaw)
    for end in (0.09, width - 0.09):
        arm_x, arm_y, _ = place(u + end, depth + 0.03)
        builder.box((arm_x, arm_y, 0.3), (0.1, depth, 0.3), fabric, yaw)
    return width


def _bench(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    x, y, yaw = place(u + 0.7, 0.3)
    if room < 1.4 or not ground.free(x, y, (0.7, 0.22), yaw):
        return 0.3
    ground.take(x, y, (0.7, 0.22))
    wood = builder.skin("wood", 0.7)
    builder.box((x, y, 0.43), (0.7, 0.2, 0.03), wood, yaw)
    for end in (0.15, 1.25):
        leg_x, leg_y, _ = place(u + end, 0.3)
        builder.box((leg_x, leg_y, 0.2), (0.04, 0.18, 0.2), wood, yaw)
    return 1.4


def boxes(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    size = builder.rng.uniform(0.2, 0.38)
    x, y, yaw = place(u + size, size + 0.05)
    if 2 * size > room or not ground.free(x, y, (size, size), yaw):
        return 0.3
    ground.take(x, y, (size, size))
    z, turn = 0.0, builder.rng.uniform(-0.25, 0.25)
    for _ in range(builder.rng.integers(1, 4)):
        tall = builder.rng.uniform(0.7, 1.2) * size
        builder.box(
            (x, y, z + tall / 2), (size * 0.9, size * 0.85, tall / 2), builder.skin("box"), yaw + turn
        )
        z, size, turn = z + tall, size * 0.9, builder.rng.uniform(-0.3, 0.3)
    return 0.8


def _bin(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    radius = builder.rng.uniform(0.12, 0.22)
    x, y, _ = place(u + radius, radius + 0.05)
    if 2 * radius > room or not ground.free(x, y, (radius, radius), 0.0):
        return 0.3
    ground.take(x, y, (radius, radius))
    builder.cylinder((x, y, 0.35), (radius, radius, 0.35), builder.skin("metal", 0.5))
    return 2 * radius


def _plant(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    radius = builder.rng.uniform(0.14, 0.2)
    x, y, _ = place(u + 2 * radius, 2 * radius + 0.05)
    half = (1.8 * radius, 1.8 * radius)
    if 4 * radius > room or not ground.free(x, y, half, 0.0):
        return 0.3
    ground.take(x, y, half)
    builder.cylinder((x, y, 0.18), (radius, radius, 0.18), builder.skin("box", 0.4))
    tall = builder.rng.uniform(0.3, 0.55)
    builder.ellipsoid((x, y, 0.3 + tall), (1.7 * radius, 1.7 * radius, tall), builder.skin("leaf", 0.5))
    return 4 * radius


def _pilaster(
    builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float
) -> float:
    x, y, yaw = place(u + 0.2, 0.08)
    if room < 0.4 or not ground.free(x, y, (0.2, 0.1), yaw):
        return 0.3
    builder.box((x, y, height / 2), (0.18, 0.1, height / 2 - 0.002), builder.skin("wall", 1.0), yaw)
    return 0.4


def _shop(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    width = builder.rng.uniform(3.0, 4.5)
    if width > room:
        return 0.5
    x, y, yaw = place(u + width / 2, 0.07)
    front = builder.skin("shopfront")
    builder.box((x, y, 1.5), (width / 2, 0.09, 1.5), builder.skin("wall", 1.5), yaw, {2: front, 3: front})
    if builder.rng.random() < 0.6:
        x, y, yaw = place(u + width / 2, 0.6)
        builder.box((x, y, 2.95), (width / 2, 0.55, 0.06), builder.skin("fabric", 0.9), yaw)
    return width


def _house_door(
    builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float
) -> float:
    if room < 1.6:
        return 0.5
    x, y, yaw = place(u + 0.8, 0.08)
    stone = builder.skin("wall", 1.0)
    builder.box((x, y, 1.3), (0.75, 0.08, 1.3), stone, yaw)
    x, y, yaw = place(u + 0.8, 0.14)
    leaf = builder.skin("door")
    builder.box((x, y, 1.15), (0.5, 0.05, 1.1), stone, yaw, {2: leaf, 3: leaf})
    x, y, yaw = place(u + 0.8, 0.45)
    builder.box((x, y, 0.1), (0.8, 0.4, 0.1), builder.skin("paving", 0.9), yaw)
    return 1.6


def _balcony(builder: Builder, ground: Ground, place: Placing, u: float, room: float, height: float) -> float:
    if room < 2.4 or height < 6:
        return 0.5
    x, y, yaw = place(u + 1.2, 0.5)
    builder.box((x, y, 3.3), (1.2, 0.5, 0.1), builder.skin("wall", 1.0), yaw)
    x, y, yaw = place(u + 1.2, 0.98)
    builder.box((x, y, 3.85), (1.2, 0.03, 0.45), builder.skin("metal", 0.7), yaw)
    return 2.4


INDOORS: dict[Thing, float] = {
    _picture: 5,
    _door: 2,
    _window: 2,
    _shelf: 3,
    _cabinet: 3,
    _sofa: 1.2,
    _bench: 1,
    boxes: 2,
    _bin: 1,
    _plant: 1.5,
    _pilaster: 1,
}
OUTDOORS: dict[Thing, float] = {
    _shop: 3,
    _house_door: 2,
    _balcony: 1,
    _picture: 1,
    _bench: 1,
    boxes: 1,
    _bin: 1.5,
    _plant: 1.5,
}
