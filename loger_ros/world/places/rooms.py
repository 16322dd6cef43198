"""Floor plans of rooms with doors between them."""

from __future__ import annotations

import numpy as np

from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.places.layout import Area, Layout, Side

WALL = 0.15  # thickness of a wall, metres
DOOR_HEIGHT = 2.1
STEP = 0.65  # metres: a door is passed straight, from this far before it to this far behind it


def rooms(builder: Builder, columns: int, rows: int, margin: float) -> Layout:
    """A building of ``columns`` x ``rows`` rooms; doors join all rooms, most neighbours directly."""
    rng = builder.rng
    x = np.concatenate([[0.0], np.cumsum(rng.uniform(3.6, 6.4, columns))])
    y = np.concatenate([[0.0], np.cumsum(rng.uniform(3.6, 6.4, rows))])
    height = rng.uniform(2.35, 3.2)
    layout = Layout("rooms", (0.0, 0.0, x[-1], y[-1]), height)
    walls = [builder.skin("wall", rng.uniform(0.9, 2.2)) for _ in range(columns * rows)]
    for j in range(rows):
        for i in range(columns):
            low, high = np.array([x[i], y[j]]), np.array([x[i + 1], y[j + 1]])
            floor, ceiling = builder.skin("floor", rng.uniform(0.7, 1.8)), builder.skin("ceiling", 1.2)
            builder.span((*low, -0.1), (*high, 0.0), floor)
            builder.span((*low, height), (*high, height + 0.1), ceiling)
            layout.areas.append(Area(low + margin + WALL / 2, high - margin - WALL / 2, j * columns + i))
            layout.floors.append((low + WALL / 2, high - WALL / 2))
            layout.lamps += _lamps(low, high, 3.0)
    doors = _doors(rng, columns, rows)
    gap = rng.uniform(0.95, 1.3)
    for j in range(rows):
        for i in range(columns + 1):
            left, right = (j * columns + i - 1 if i else -1), (j * columns + i if i < columns else -1)
            openings = _openings(rng, y[j], y[j + 1], gap, frozenset((left, right)) in doors)
            skins = {0: walls[left if left >= 0 else right], 1: walls[right if right >= 0 else left]}
            _wall(builder, layout, 0, x[i], y[j], y[j + 1], height, openings, skins, (left >= 0, right >= 0))
            for middle, _ in openings:
                layout.link(left, right, np.array([[x[i] - STEP, middle], [x[i] + STEP, middle]]))
    for i in range(columns):
        for j in range(rows + 1):
            below, above = ((j - 1) * columns + i if j else -1), (j * columns + i if j < rows else -1)
            openings = _openings(rng, x[i], x[i + 1], gap, frozenset((below, above)) in doors)
            skins = {2: walls[below if below >= 0 else above], 3: walls[above if above >= 0 else below]}
            _wall(builder, layout, 1, y[j], x[i], x[i + 1], height, openings, skins, (below >= 0, above >= 0))
            for middle, _ in openings:
                layout.link(below, above, np.array([[middle, y[j] - STEP], [middle, y[j] + STEP]]))
    return layout


def _lamps(low: np.ndarray, high: np.ndarray, spacing: float) -> list[tuple[float, float]]:
    count = np.maximum(1, np.round((high - low) / spacing)).astype(int)
    xs = low[0] + (high[0] - low[0]) * (np.arange(count[0]) + 0.5) / count[0]
    ys = low[1] + (high[1] - low[1]) * (np.arange(count[1]) + 0.5) / count[1]
    return [(float(a), float(b)) for a in xs for b in ys]


def _doors(rng: np.random.Generator, columns: int, rows: int) -> set[frozenset[int]]:
    """A spanning tree of the rooms and 60 % of the other neighbours, so that there are loops."""
    pairs = [(j * columns + i, j * columns + i + 1) for j in range(rows) for i in range(columns - 1)]
    pairs += [(j * columns + i, (j + 1) * columns + i) for j in range(rows - 1) for i in range(columns)]
    group = list(range(columns * rows))
    chosen = set()
    for k in rng.permutation(len(pairs)):
        a, b = pairs[k]
        if group[a] != group[b]:
            group = [group[a] if g == group[b] else g for g in group]
            chosen.add(frozenset((a, b)))
        elif rng.random() < 0.6:
            chosen.add(frozenset((a, b)))
    return chosen


def _openings(
    rng: np.random.Generator, start: float, end: float, gap: float, door: bool
) -> list[tuple[float, float]]:
    if not door:
        return []
    return [(rng.uniform(start + gap / 2 + 0.5, end - gap / 2 - 0.5), gap)]


def _wall(
    builder: Builder,
    layout: Layout,
    axis: int,
    at: float,
    start: float,
    end: float,
    height: float,
    openings: list[tuple[float, float]],
    skins: dict[int, Skin],
    free: tuple[bool, bool],
) -> None:
    """A wall at ``at`` on ``axis`` (0: it runs along y), with doorways; ``free``: the sides one can see."""
    half, skin = WALL / 2, next(iter(skins.values()))

    def piece(a: float, b: float, low: float, high: float) -> None:
        if b - a < 0.02:
            return
        corner_low, corner_high = [0.0, 0.0, low], [0.0, 0.0, high]
        corner_low[axis], corner_high[axis] = at - half, at + half
        corner_low[1 - axis], corner_high[1 - axis] = a, b
        builder.span(corner_low, corner_high, skin, skins)

    cuts = (
        [start]
        + [value for middle, gap in openings for value in (middle - gap / 2, middle + gap / 2)]
        + [end]
    )
    for a, b in zip(cuts[::2], cuts[1::2], strict=True):
        piece(a, b, 0.0, height)
    for middle, gap in openings:
        piece(middle - gap / 2, middle + gap / 2, DOOR_HEIGHT, height)
    gaps = tuple((middle - gap / 2 - start, middle + gap / 2 - start) for middle, gap in openings)
    for side, seen in zip((-1.0, 1.0), free, strict=True):
        if seen:
            inward, first, last = np.zeros(2), np.zeros(2), np.zeros(2)
            inward[axis] = side
            first[axis] = last[axis] = at + side * half
            first[1 - axis], last[1 - axis] = start, end
            layout.sides.append(Side(first, last, inward, height, gaps))
