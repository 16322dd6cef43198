"""The light map of a scene: lamps or sun from above, and the shadows that things cast on the ground."""

from __future__ import annotations

import math

import numpy as np

from loger_ros.world.places.layout import Layout
from loger_ros.world.scene import LightMap, Shapes

FLAT = 0.12  # metres; lower things cast no shadow


def light_map(
    layout: Layout, shapes: dict[str, Shapes], sun: np.ndarray, rng: np.random.Generator
) -> LightMap:
    indoors = layout.ceiling is not None
    cell = 0.12 if indoors else 0.25
    left, low, right, high = layout.bounds
    width, height = math.ceil((right - left) / cell) + 1, math.ceil((high - low) / cell) + 1
    x, y = left + np.arange(width) * cell, low + np.arange(height) * cell
    if indoors:
        air = _lamp_light(layout, x, y, rng)
        shade = _blur(_covered(shapes, x, y, np.zeros(2), 1.2), 2)
        ground = air * (1 - 0.5 * shade)
    else:
        shadow = _blur(_covered(shapes, x, y, sun[:2] / sun[2], np.inf), 1)
        air = 1 - 0.2 * _blur(shadow, 4)
        ground = 1 - 0.45 * shadow
    values = np.stack([air, ground], -1)
    return LightMap((np.clip(values, 0, 1) * 255).astype(np.uint8), (left, low), cell)


def _lamp_light(layout: Layout, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = np.full((len(y), len(x)), 0.5)
    for a, b in layout.lamps:
        strength = rng.uniform(0.15, 0.5)
        across, down = np.abs(x - a) < 6, np.abs(y - b) < 6
        square = (x[across] - a)[None] ** 2 + (y[down] - b)[:, None] ** 2
        light[np.ix_(down, across)] += strength / (1 + square / 1.5**2) ** 1.5
    return np.minimum(light, 1.0)


def _covered(
    shapes: dict[str, Shapes], x: np.ndarray, y: np.ndarray, lean: np.ndarray, ceiling: float
) -> np.ndarray:
    """Which cells lie in the shadow of a still shape; ``lean``: how far it falls per metre of height.

    That is where the line towards the sun, from a shape's bottom to its top, meets its footprint.
    """
    covered = np.zeros((len(y), len(x)))
    cell = x[1] - x[0]
    for kind, group in shapes.items():
        for centre, half, yaw, sweep in zip(group.centre, group.half, group.yaw, group.sweep, strict=True):
            bottom, top = max(0.0, centre[2] - half[2]), centre[2] + half[2]
            if top < FLAT or bottom > ceiling or sweep.any():
                continue
            first, step = lean * bottom, lean * (top - bottom)
            reach = math.hypot(half[0], half[1])
            ends = centre[:2] - np.stack([first, first + step])
            low, high = ends.min(0) - reach - cell, ends.max(0) + reach + cell
            columns = slice(*np.searchsorted(x, (low[0], high[0])))
            rows = slice(*np.searchsorted(y, (low[1], high[1])))
            px, py = x[None, columns] + first[0] - centre[0], y[rows, None] + first[1] - centre[1]
            if px.size == 0 or py.size == 0:
                continue
            cos, sin = math.cos(yaw), math.sin(yaw)
            local = [(cos * px + sin * py) / half[0], (cos * py - sin * px) / half[1]]
            ray = [
                (cos * step[0] + sin * step[1]) / half[0] + 1e-9,
                (cos * step[1] - sin * step[0]) / half[1] + 1e-9,
            ]
            if kind == "box":
                enter, leave = np.zeros(()), np.ones(())
                for p, d in zip(local, ray, strict=True):
                    a, b = (-1 - p) / d, (1 - p) / d
                    enter, leave = np.maximum(enter, np.minimum(a, b)), np.minimum(leave, np.maximum(a, b))
                inside = enter <= leave
            else:
                t = -(local[0] * ray[0] + local[1] * ray[1]) / (ray[0] ** 2 + ray[1] ** 2)
                t = np.clip(t, 0, 1)
                inside = (local[0] + t * ray[0]) ** 2 + (local[1] + t * ray[1]) ** 2 <= 1
            covered[rows, columns] = np.maximum(covered[rows, columns], inside)
    return covered


def _blur(image: np.ndarray, radius: int) -> np.ndarray:
    """Two box filters: soft edges."""
    for _ in range(2):
        for axis in (0, 1):
            padded = np.pad(
                image, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge"
            )
            total = np.cumsum(padded, axis)
            size = image.shape[axis]
            front = np.take(total, np.arange(2 * radius + 1, 2 * radius + 1 + size), axis)
            image = (front - np.take(total, np.arange(size), axis)) / (2 * radius + 1)
    return image
