"""Floor plans of blocks with passages between them: corridors indoors, streets outdoors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.places.layout import Area, Layout, Side

PAVEMENT = 1.6  # metres


def blocks(builder: Builder, columns: int, rows: int, margin: float, street: bool) -> Layout:
    """A grid of blocks with passages around every one of them, inside an outer wall or a ring of houses."""
    rng = builder.rng
    width = rng.uniform(7.0, 10.0) if street else rng.uniform(1.7, 2.7)
    sizes = (8.0, 16.0) if street else (2.5, 7.0)
    xs = np.cumsum(rng.uniform(*sizes, columns) + width) - width  # right edges of the blocks
    ys = np.cumsum(rng.uniform(*sizes, rows) + width) - width
    x_low = np.concatenate([[0.0], xs[:-1] + width])
    y_low = np.concatenate([[0.0], ys[:-1] + width])
    bounds = (-width, -width, xs[-1] + width, ys[-1] + width)
    height = rng.uniform(2.3, 3.0)
    layout = Layout("street" if street else "corridor", bounds, None if street else height)
    low, high = np.array(bounds[:2]), np.array(bounds[2:])
    if street:
        builder.span((*(low - 6), -0.1), (*(high + 6), 0.0), builder.skin("road", rng.uniform(2.5, 4.0)))
    else:
        builder.span((*(low - 1), -0.1), (*(high + 1), 0.0), builder.skin("floor", rng.uniform(0.7, 1.8)))
        builder.span((*(low - 1), height), (*(high + 1), height + 0.1), builder.skin("ceiling", 1.2))
    wall = None if street else builder.skin("wall", rng.uniform(1.0, 2.2))
    for j in range(rows):
        for i in range(columns):
            _block(builder, layout, (x_low[i], y_low[j]), (xs[i], ys[j]), wall)
    for strip in _surround(low, high, 6.0 if street else 0.5):
        _outer(builder, layout, strip, wall)

    x_ways = np.concatenate([x_low - width / 2, [xs[-1] + width / 2]])  # middles of the passages along y
    y_ways = np.concatenate([y_low - width / 2, [ys[-1] + width / 2]])
    slack = max(0.0, width / 2 - margin) * (0.7 if street else 0.5)
    for q in y_ways:
        for p in x_ways:
            middle = np.array([p, q])
            layout.areas.append(Area(middle - slack, middle + slack, -1))
            if not street:
                layout.lamps.append((p, q))
    nothing = np.zeros((0, 2))
    across = len(x_ways)
    for j in range(len(y_ways)):
        for i in range(across):
            here = j * across + i
            if i + 1 < across:
                layout.link(here, here + 1, nothing)
                middle = (x_ways[i] + x_ways[i + 1]) / 2
                layout.lamps += [] if street else [(middle, y_ways[j])]
            if j + 1 < len(y_ways):
                layout.link(here, here + across, nothing)
                middle = (y_ways[j] + y_ways[j + 1]) / 2
                layout.lamps += [] if street else [(x_ways[i], middle)]
    return layout


def _block(
    builder: Builder, layout: Layout, low: Sequence[float], high: Sequence[float], wall: Skin | None
) -> None:
    """A house on its pavement, or a solid piece of a building (``wall``: the skin of most of them)."""
    rng = builder.rng
    if layout.ceiling is None or wall is None:
        top = rng.uniform(6, 15)
        edge = [low[0] - PAVEMENT, low[1] - PAVEMENT, -0.1], [high[0] + PAVEMENT, high[1] + PAVEMENT, 0.1]
        builder.span(*edge, builder.skin("paving", 1.4))
        _house(builder, (*low, 0.0), (*high, top))
    else:
        top = layout.ceiling
        own = wall if rng.random() < 0.7 else builder.skin("wall", rng.uniform(1.0, 2.2))
        builder.span((*low, 0.0), (*high, top), own)
    corners = [low, (high[0], low[1]), high, (low[0], high[1])]
    inwards = ((0, -1), (1, 0), (0, 1), (-1, 0))
    for first, last, inward in zip(corners, corners[1:] + corners[:1], inwards, strict=True):
        layout.sides.append(Side(np.array(first), np.array(last), np.array(inward, float), top))


def _house(builder: Builder, low: Sequence[float], high: Sequence[float]) -> None:
    """Walls of windows on a plinth, under a roof edge."""
    front, trim = builder.skin("facade", builder.rng.uniform(5, 7), whole=True), builder.skin("wall", 2.0)
    builder.span(low, high, front, {5: trim})
    for a, b, out in ((0.0, 0.5, 0.06), (high[2] - 0.45, high[2] + 0.05, 0.3)):
        builder.span((low[0] - out, low[1] - out, a), (high[0] + out, high[1] + out, b), trim)


def _surround(
    low: np.ndarray, high: np.ndarray, depth: float
) -> Iterator[tuple[Sequence[float], Sequence[float], int, Sequence[float]]]:
    """Four outer strips: corners, the axis along the strip and the direction inwards."""
    yield (low[0] - depth, low[1] - depth), (high[0] + depth, low[1]), 0, (0.0, 1.0)
    yield (low[0] - depth, high[1]), (high[0] + depth, high[1] + depth), 0, (0.0, -1.0)
    yield (low[0] - depth, low[1]), (low[0], high[1]), 1, (1.0, 0.0)
    yield (high[0], low[1]), (high[0] + depth, high[1]), 1, (-1.0, 0.0)


def _outer(
    builder: Builder,
    layout: Layout,
    strip: tuple[Sequence[float], Sequence[float], int, Sequence[float]],
    wall: Skin | None,
) -> None:
    low, high, axis, inward = strip
    rng, edge = builder.rng, 1 - axis
    if layout.ceiling is not None and wall is not None:
        top = layout.ceiling
        builder.span((*low, 0.0), (*high, top), wall)
    else:
        top = 5.0  # of what hangs on the houses
        cuts = [low[axis]]
        while cuts[-1] < high[axis] - 9:
            cuts.append(cuts[-1] + rng.uniform(6, 12))
        cuts = [*cuts[:-1], high[axis]] if len(cuts) > 1 else [low[axis], high[axis]]
        for a, b in pairwise(cuts):
            corners = [[*low, 0.0], [*high, rng.uniform(5, 14)]]
            corners[0][axis], corners[1][axis] = a, b
            _house(builder, *corners)
    first, last = np.zeros(2), np.zeros(2)
    first[edge] = last[edge] = high[edge] if inward[edge] > 0 else low[edge]
    first[axis], last[axis] = max(low[axis], layout.bounds[axis]), min(high[axis], layout.bounds[2 + axis])
    layout.sides.append(Side(first, last, np.array(inward), top))
