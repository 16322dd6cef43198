"""Where to go in a layout: a walk over its areas, and the smooth curve along it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loger_ros.world.places.layout import Layout

STEP = 0.01  # metres between samples of a curve
TURN_STEP = np.radians(0.25)  # between samples of a turn in place


@dataclass(frozen=True, eq=False)
class Curve:
    """A densely sampled path in the plane. Successive samples differ by at most STEP or by TURN_STEP."""

    position: np.ndarray  # (M, 2)
    yaw: np.ndarray  # (M,) continuous, radians
    breaks: np.ndarray  # samples at which a robot stops for a moment: to turn in place, to reverse

    def after(self, start: int) -> Curve:
        """Return the curve without its first samples."""
        return Curve(self.position[start:], self.yaw[start:], self.breaks[self.breaks >= start] - start)


def walk(layout: Layout, rng: np.random.Generator, length: float, closed: bool) -> np.ndarray:
    """Return waypoints (M, 2) over about ``length`` metres; a closed walk ends where it began."""
    here = int(rng.integers(len(layout.areas)))
    before = -1
    visits = np.zeros(len(layout.areas))
    points = [_inside(layout, here, rng)]
    travelled, trail = 0.0, [here]
    while travelled < length:
        if closed and len(points) > 2 and travelled + _path_home(layout, here, trail[0], points) >= length:
            break
        area = layout.areas[here]
        fresh = []
        if area.room >= 0:  # rooms are explored, junctions are passed
            fresh = [_inside(layout, here, rng) for _ in range(rng.integers(1, 4))]
        links = layout.links.get(here, [])
        if links:
            keen = np.array([np.exp(-visits[to]) * (0.02 if to == before else 1.0) for to, _ in links])
            to, via = links[rng.choice(len(links), p=keen / keen.sum())]
            fresh += list(via)
            before, here = here, to
            visits[here] += 1
            trail.append(here)
        elif not fresh:
            raise ValueError("the layout has an area that leads nowhere")
        fresh.append(_inside(layout, here, rng))
        for point in fresh:
            if np.linalg.norm(point - points[-1]) > 0.4:
                travelled += float(np.linalg.norm(point - points[-1]))
                points.append(point)
    if closed:
        for entered, via in _path(layout, here, trail[0]):
            points += [*via, _inside(layout, entered, rng)]
        while len(points) > 2 and np.linalg.norm(points[-1] - points[0]) < 0.4:
            points.pop()
        points.append(points[0])
    return np.array(points)


def curve(
    way: np.ndarray, rng: np.random.Generator, tight: float, wander: float, reverse: float, closed: bool
) -> Curve:
    """Round the corners of a path. A closed one ends with a turn into the direction it began in.

    A share ``tight`` of the sharper corners is turned in place; waypoints up to ``wander`` metres to the
    side are added; the robot reverses with probability ``reverse`` per metre.
    """
    way = _wandering(way, rng, wander)
    leg = np.diff(way, axis=0)
    length = np.linalg.norm(leg, axis=1)
    heading = np.unwrap(np.arctan2(leg[:, 1], leg[:, 0]))
    position, yaw, breaks = [way[:1]], [heading[:1]], []
    count = 1
    start = way[0]
    for i in range(len(leg)):
        if i + 1 < len(leg):
            turn = (heading[i + 1] - heading[i] + np.pi) % (2 * np.pi) - np.pi
            heading[i + 1] = heading[i] + turn
            tangent = min(0.45 * length[i], 0.45 * length[i + 1], 0.9)
            radius = tangent / max(np.tan(abs(turn) / 2), 1e-9)
            spot = radius < 0.3 or abs(turn) > 2.6 or (abs(turn) > 0.7 and rng.random() < tight)
            cut = 0.0 if spot else tangent
        else:
            turn, cut, radius, spot = 0.0, 0.0, 1.0, closed
            if closed:
                turn = (heading[0] - heading[i] + np.pi) % (2 * np.pi) - np.pi
        direction = leg[i] / length[i]
        end = way[i + 1] - direction * cut
        p, h, b = _straight(start, end, heading[i], rng, reverse)
        breaks += [count + k for k in b]
        if spot:
            steps = max(1, int(np.ceil(abs(turn) / TURN_STEP)))
            breaks += [count + len(p) - 1, count + len(p) + steps - 1]
            p = np.concatenate([p, np.repeat(way[i + 1 : i + 2], steps, 0)])
            h = np.concatenate([h, heading[i] + turn * np.arange(1, steps + 1) / steps])
        elif cut > 0 and abs(turn) > 1e-6:
            steps = max(1, int(np.ceil(radius * abs(turn) / STEP)))
            angle = turn * np.arange(1, steps + 1) / steps
            side = np.sign(turn) * np.array([-direction[1], direction[0]])
            along, out = np.sin(np.abs(angle)), 1 - np.cos(angle)
            p = np.concatenate([p, end + radius * (along[:, None] * direction + out[:, None] * side)])
            h = np.concatenate([h, heading[i] + angle])
        position.append(p)
        yaw.append(h)
        count += len(p)
        start = p[-1] if len(p) else start
    return Curve(np.concatenate(position), np.concatenate(yaw), np.array(sorted(set(breaks)), int))


def _straight(
    start: np.ndarray, end: np.ndarray, heading: float, rng: np.random.Generator, reverse: float
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Samples after ``start`` up to ``end``; sometimes part of it back and forward again."""
    length = float(np.linalg.norm(end - start))
    steps = int(np.ceil(length / STEP))
    if steps == 0:
        return np.zeros((0, 2)), np.zeros(0), []
    at = np.arange(1, steps + 1) / steps
    breaks: list[int] = []
    if length > 1.2 and rng.random() < reverse * length:
        back = int(rng.uniform(0.3, 0.8) / STEP)
        turn_at = int(rng.integers(back + 2, steps)) if back + 2 < steps else 0
        if turn_at:
            at = np.concatenate(
                [at[:turn_at], at[turn_at - 2 : turn_at - 2 - back : -1], at[turn_at - back :]]
            )
            breaks = [turn_at - 1, turn_at + back - 1]
    return start + at[:, None] * (end - start), np.full(len(at), heading), breaks


def _wandering(way: np.ndarray, rng: np.random.Generator, wander: float) -> np.ndarray:
    points = [way[0]]
    for a, b in pairwise(way):
        length = np.linalg.norm(b - a)
        pieces = int(length / rng.uniform(1.6, 2.6)) if wander > 0 else 1
        side = np.array([a[1] - b[1], b[0] - a[0]]) / length
        for k in range(1, pieces):
            points.append(a + (b - a) * k / pieces + side * rng.uniform(-wander, wander))
        points.append(b)
    return np.array(points)


def _inside(layout: Layout, area: int, rng: np.random.Generator) -> np.ndarray:
    low, high = layout.areas[area].low, layout.areas[area].high
    if (high < low).any():
        raise ValueError(f"area {area} of the {layout.kind} is too narrow for the requested margin")
    return rng.uniform(low, high)


def _path(layout: Layout, start: int, goal: int) -> list[tuple[int, np.ndarray]]:
    """Return the fewest areas from start to goal, with the points on the way into each."""
    came: dict[int, tuple[int, np.ndarray]] = {start: (start, np.zeros((0, 2)))}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for to, via in layout.links.get(here, []):
            if to not in came:
                came[to] = (here, via)
                queue.append(to)
    path = []
    here = goal
    while here != start:
        before, via = came[here]
        path.append((here, via))
        here = before
    return path[::-1]


def _path_home(layout: Layout, here: int, home: int, points: list[np.ndarray]) -> float:
    route = [points[-1]]
    for area, via in _path(layout, here, home):
        route += [*via, (layout.areas[area].low + layout.areas[area].high) / 2]
    route.append(points[0])
    return float(np.linalg.norm(np.diff(np.array(route), axis=0), axis=1).sum())
