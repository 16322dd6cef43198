"""What stands away from the walls: furniture in rooms, trees and cars in streets."""

from __future__ import annotations

import math

import numpy as np

from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.places.ground import Ground, pick
from loger_ros.world.places.layout import Layout
from loger_ros.world.places.wall_things import boxes, clutter


def fill_room(builder: Builder, low: np.ndarray, high: np.ndarray, ground: Ground) -> None:
    rng = builder.rng
    if rng.random() < 0.7:  # a rug is thin enough to drive over
        half = rng.uniform(0.6, 1.1, 2)
        x, y = rng.uniform(low + half + 0.2, np.maximum(high - half - 0.2, low + half + 0.3))
        builder.box((x, y, 0.003), (*half, 0.006), builder.skin("rug"), rng.choice([0.0, rng.uniform(0, 3)]))
    for _ in range(int(rng.integers(4, 9))):
        x, y = rng.uniform(low + 0.5, high - 0.5)
        pick(rng, {_table: 3, _stack: 3, _column: 1.5, _stool: 2})(builder, ground, float(x), float(y))


def _table(builder: Builder, ground: Ground, x: float, y: float) -> None:
    rng = builder.rng
    half, yaw, tall = (
        (rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.45)),
        rng.uniform(0, 3),
        rng.uniform(0.45, 0.76),
    )
    if not ground.free(x, y, half, yaw):
        return
    ground.take(x, y, half)
    wood, cos, sin = builder.skin("wood", 0.9), math.cos(yaw), math.sin(yaw)
    builder.box((x, y, tall), (*half, 0.025), wood, yaw)
    for i in (-1, 1):
        for j in (-1, 1):
            dx, dy = i * (half[0] - 0.06), j * (half[1] - 0.06)
            builder.box(
                (x + cos * dx - sin * dy, y + sin * dx + cos * dy, tall / 2),
                (0.03, 0.03, tall / 2),
                wood,
                yaw,
            )
    clutter(builder, x, y, tall + 0.025, min(half))


def _stack(builder: Builder, ground: Ground, x: float, y: float) -> None:
    boxes(builder, ground, lambda u, out: (x, y, float(builder.rng.uniform(0, 3))), 0.0, 9.0, 3.0)


def _column(builder: Builder, ground: Ground, x: float, y: float) -> None:
    radius = builder.rng.uniform(0.14, 0.22)
    if ground.free(x, y, (radius, radius), 0.0):
        ground.take(x, y, (radius, radius))
        builder.cylinder((x, y, 1.6), (radius, radius, 1.6), builder.skin("wall", 0.9))
        builder.cylinder((x, y, 0.1), (radius * 1.25, radius * 1.25, 0.1), builder.skin("wall", 0.9))


def _stool(builder: Builder, ground: Ground, x: float, y: float) -> None:
    if ground.free(x, y, (0.2, 0.2), 0.0):
        ground.take(x, y, (0.2, 0.2))
        builder.cylinder((x, y, 0.45), (0.19, 0.19, 0.03), builder.skin("wood", 0.5))
        builder.cylinder((x, y, 0.21), (0.03, 0.03, 0.21), builder.skin("metal", 0.5))
        builder.cylinder((x, y, 0.015), (0.15, 0.15, 0.015), builder.skin("metal", 0.5))


def fill_street(builder: Builder, layout: Layout, ground: Ground) -> None:
    """Trees, lamps and posts at the kerb, cars beside it."""
    rng = builder.rng
    for side in layout.sides:
        length = float(np.linalg.norm(side.end - side.start))
        along = (side.end - side.start) / length
        yaw = math.atan2(along[1], along[0])
        u = rng.uniform(1.0, 3.0)
        while u < length - 1:
            thing = pick(rng, {_tree: 2, _lamp_post: 1.5, _bollard: 1.5, _car: 2})
            out = 2.7 if thing is _car else rng.uniform(1.15, 1.4)
            x, y = side.start + along * u + side.inward * out
            thing(builder, ground, float(x), float(y), yaw)
            u += rng.uniform(2.0, 5.5)


def _tree(builder: Builder, ground: Ground, x: float, y: float, yaw: float) -> None:
    radius, rng = builder.rng.uniform(0.1, 0.18), builder.rng
    if not ground.free(x, y, (radius, radius), 0.0):
        return
    ground.take(x, y, (0.5, 0.5))
    tall = rng.uniform(2.2, 3.2)
    builder.cylinder((x, y, tall / 2), (radius, radius, tall / 2), builder.skin("bark", 0.6))
    crown = rng.uniform(1.0, 1.5)
    leaf = builder.skin("leaf", 1.2)
    builder.ellipsoid((x, y, tall + crown * 0.8), (crown, crown, crown), leaf)
    if rng.random() < 0.4:
        low = (x + 0.4 * crown, y - 0.3 * crown, tall + crown * 0.5)
        builder.ellipsoid(low, (crown * 0.7, crown * 0.7, crown * 0.6), leaf)


def _lamp_post(builder: Builder, ground: Ground, x: float, y: float, yaw: float) -> None:
    if ground.free(x, y, (0.12, 0.12), 0.0):
        ground.take(x, y, (0.3, 0.3))
        metal = builder.skin("metal", 0.6)
        builder.cylinder((x, y, 1.9), (0.06, 0.06, 1.9), metal)
        builder.cylinder((x, y, 0.2), (0.11, 0.11, 0.2), metal)
        builder.ellipsoid((x, y, 3.95), (0.22, 0.22, 0.25), builder.skin("ceiling", 0.6))


def _bollard(builder: Builder, ground: Ground, x: float, y: float, yaw: float) -> None:
    if ground.free(x, y, (0.12, 0.12), 0.0):
        ground.take(x, y, (0.2, 0.2))
        builder.cylinder((x, y, 0.45), (0.1, 0.1, 0.45), builder.skin("metal", 0.4))


def _car(builder: Builder, ground: Ground, x: float, y: float, yaw: float) -> None:
    half = (2.0, 0.82)
    if not ground.free(x, y, half, yaw):
        return
    ground.take(x, y, half)
    rng, cos, sin = builder.rng, math.cos(yaw), math.sin(yaw)
    colour = tuple(rng.uniform(0.5, 1.5, 3))
    body = Skin(builder.skin("metal").texture, 4.0, colour)
    glass = builder.skin("window")
    dark = Skin(glass.texture, None, (0.45, 0.5, 0.55))
    builder.box((x, y, 0.55), (2.0, 0.82, 0.3), body, yaw)
    builder.box((x - 0.15 * cos, y - 0.15 * sin, 1.1), (1.05, 0.72, 0.27), dark, yaw, {5: body})
    rubber = Skin(builder.skin("road").texture, 0.8, (0.3, 0.3, 0.3))
    for along in (-1.25, 1.25):
        builder.box((x + along * cos, y + along * sin, 0.27), (0.3, 0.84, 0.27), rubber, yaw)
