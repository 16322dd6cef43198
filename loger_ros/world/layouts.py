"""Floor plans: rooms with doors, and blocks with ways between them (corridors indoors, streets outdoors).

A layout raises the walls and says where one can go: areas, and the links between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from loger_ros.world.builder import Builder, Skin

WALL = 0.15  # thickness of an inner wall, metres
DOOR_HEIGHT = 2.1


@dataclass(frozen=True)
class Area:
    """A convex place to be: any straight way inside it is free of walls."""

    low: np.ndarray  # (2,) the part where a camera may go
    high: np.ndarray
    room: int  # -1: a junction of corridors or streets


@dataclass(frozen=True)
class Side:
    """One face of a wall, seen from the free side of it: things stand against it and hang on it."""

    start: np.ndarray  # (2,)
    end: np.ndarray
    inward: np.ndarray  # (2,) unit vector into the free side
    height: float
    gaps: tuple[tuple[float, float], ...] = ()  # openings, metres from the start


@dataclass
class Layout:
    kind: str
    bounds: tuple[float, float, float, float]  # least x, y, greatest x, y
    ceiling: float | None  # metres; None: the sky
    areas: list[Area] = field(default_factory=list)
    links: dict[int, list[tuple[int, np.ndarray]]] = field(
        default_factory=dict
    )  # area → (area, points on the way)
    sides: list[Side] = field(default_factory=list)
    floors: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # free rectangles for furniture
    lamps: list[tuple[float, float]] = field(default_factory=list)

    def link(self, a: int, b: int, points: np.ndarray) -> None:
        self.links.setdefault(a, []).append((b, points))
        self.links.setdefault(b, []).append((a, points[::-1]))


def rooms(builder: Builder, columns: int, rows: int, margin: float) -> Layout:
    """A building of ``columns`` x ``rows`` rooms; neighbours are joined by doors, most of them twice over."""
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
                through = np.array([[x[i] - 0.65, middle], [x[i] + 0.65, middle]])
                layout.link(left, right, through)
    for i in range(columns):
        for j in range(rows + 1):
            low, high = ((j - 1) * columns + i if j else -1), (j * columns + i if j < rows else -1)
            openings = _openings(rng, x[i], x[i + 1], gap, frozenset((low, high)) in doors)
            skins = {2: walls[low if low >= 0 else high], 3: walls[high if high >= 0 else low]}
            _wall(builder, layout, 1, y[j], x[i], x[i + 1], height, openings, skins, (low >= 0, high >= 0))
            for middle, _ in openings:
                through = np.array([[middle, y[j] - 0.65], [middle, y[j] + 0.65]])
                layout.link(low, high, through)
    return layout


def blocks(builder: Builder, columns: int, rows: int, margin: float, street: bool) -> Layout:
    """A grid of blocks with ways around every one of them, inside an outer wall or a ring of houses."""
    rng = builder.rng
    width = rng.uniform(7.0, 10.0) if street else rng.uniform(1.7, 2.7)
    sizes = (8.0, 16.0) if street else (2.5, 7.0)
    xs = np.cumsum(rng.uniform(*sizes, columns) + width) - width  # right edges of the blocks
    ys = np.cumsum(rng.uniform(*sizes, rows) + width) - width
    x_low = np.concatenate([[0.0], xs[:-1] + width])
    y_low = np.concatenate([[0.0], ys[:-1] + width])
    bounds = (-width, -width, xs[-1] + width, ys[-1] + width)
    height = None if street else rng.uniform(2.3, 3.0)
    layout = Layout("street" if street else "corridor", bounds, height)
    low, high = np.array(bounds[:2]), np.array(bounds[2:])
    if street:
        builder.span((*(low - 6), -0.1), (*(high + 6), 0.0), builder.skin("road", rng.uniform(2.5, 4.0)))
    else:
        builder.span((*(low - 1), -0.1), (*(high + 1), 0.0), builder.skin("floor", rng.uniform(0.7, 1.8)))
        builder.span((*(low - 1), height), (*(high + 1), height + 0.1), builder.skin("ceiling", 1.2))
    wall = None if street else builder.skin("wall", rng.uniform(1.0, 2.2))
    for j in range(rows):
        for i in range(columns):
            _block(builder, layout, (x_low[i], y_low[j]), (xs[i], ys[j]), height, wall)
    for corner_low, corner_high, axis, inward in _surround(low, high, 6.0 if street else 0.5):
        _outer(builder, layout, corner_low, corner_high, axis, inward, height, wall)

    x_ways = np.concatenate([x_low - width / 2, [xs[-1] + width / 2]])  # middles of the ways along y
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


def _lamps(low: np.ndarray, high: np.ndarray, spacing: float) -> list[tuple[float, float]]:
    count = np.maximum(1, np.round((high - low) / spacing)).astype(int)
    xs = low[0] + (high[0] - low[0]) * (np.arange(count[0]) + 0.5) / count[0]
    ys = low[1] + (high[1] - low[1]) * (np.arange(count[1]) + 0.5) / count[1]
    return [(float(a), float(b)) for a in xs for b in ys]


def _doors(rng: np.random.Generator, columns: int, rows: int) -> set[frozenset[int]]:
    """A spanning tree of the rooms and half of the other neighbours, so that there are ways round."""
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
        builder.span(tuple(corner_low), tuple(corner_high), skin, skins)

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


def _block(
    builder: Builder,
    layout: Layout,
    low: tuple[float, float],
    high: tuple[float, float],
    ceiling: float | None,
    wall: Skin | None,
) -> None:
    rng = builder.rng
    if ceiling is None:
        top = rng.uniform(6, 15)
        pavement = 1.6
        edge = builder.skin("paving", 1.4)
        builder.span(
            (low[0] - pavement, low[1] - pavement, -0.1), (high[0] + pavement, high[1] + pavement, 0.1), edge
        )
        _house(builder, (*low, 0.0), (*high, top))
    else:
        top = ceiling
        own = wall if rng.random() < 0.7 else builder.skin("wall", rng.uniform(1.0, 2.2))
        builder.span((*low, 0.0), (*high, ceiling), own)
    corners = [low, (high[0], low[1]), high, (low[0], high[1])]
    for first, last, inward in zip(
        corners, corners[1:] + corners[:1], ((0, -1), (1, 0), (0, 1), (-1, 0)), strict=True
    ):
        layout.sides.append(Side(np.array(first), np.array(last), np.array(inward, float), top))


def _house(builder: Builder, low: tuple[float, float, float], high: tuple[float, float, float]) -> None:
    """Walls of windows on a plinth, under a roof edge."""
    front, trim = builder.skin("facade", builder.rng.uniform(5, 7), whole=True), builder.skin("wall", 2.0)
    builder.span(low, high, front, {5: trim})
    for a, b, out in ((0.0, 0.5, 0.06), (high[2] - 0.45, high[2] + 0.05, 0.3)):
        builder.span((low[0] - out, low[1] - out, a), (high[0] + out, high[1] + out, b), trim)


def _surround(low: np.ndarray, high: np.ndarray, depth: float):
    """Four outer strips: corners, the axis along the strip and the direction inwards."""
    yield (low[0] - depth, low[1] - depth), (high[0] + depth, low[1]), 0, (0.0, 1.0)
    yield (low[0] - depth, high[1]), (high[0] + depth, high[1] + depth), 0, (0.0, -1.0)
    yield (low[0] - depth, low[1]), (low[0], high[1]), 1, (1.0, 0.0)
    yield (high[0], low[1]), (high[0] + depth, high[1]), 1, (-1.0, 0.0)


def _outer(
    builder: Builder,
    layout: Layout,
    low: tuple[float, float],
    high: tuple[float, float],
    axis: int,
    inward: tuple[float, float],
    ceiling: float | None,
    wall: Skin | None,
) -> None:
    rng = builder.rng
    top = ceiling
    if ceiling is not None:
        builder.span((*low, 0.0), (*high, ceiling), wall)
    else:
        cuts = [low[axis]]
        while cuts[-1] < high[axis] - 9:
            cuts.append(cuts[-1] + rng.uniform(6, 12))
        cuts = [*cuts[:-1], high[axis]] if len(cuts) > 1 else [low[axis], high[axis]]
        for a, b in pairwise(cuts):
            first, last = [*low, 0.0], [*high, rng.uniform(5, 14)]
            first[axis], last[axis] = a, b
            _house(builder, tuple(first), tuple(last))
        top = 5.0
    edge = 1 - axis
    at = high[edge] if inward[edge] > 0 else low[edge]
    first, last = np.zeros(2), np.zeros(2)
    first[edge] = last[edge] = at
    first[axis], last[axis] = max(low[axis], layout.bounds[axis]), min(high[axis], layout.bounds[2 + axis])
    layout.sides.append(Side(first, last, np.array(inward), top))
