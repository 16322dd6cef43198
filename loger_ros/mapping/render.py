"""Draws a cloud as a picture: points are small discs, the nearest on top, with darkened depth edges.

Plain NumPy. Axes of a view are those of a camera: x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

PAPER = (250, 249, 246)
NEAREST = 1e-3  # of the depth of the farthest point; what is nearer is not drawn
MOST_RADIUS = 24  # pixels of a disc
SHADE = 0.7  # how dark a step in depth becomes
STEPS = ((1, 0), (0, 1), (2, 2), (2, -2))  # pixels, with their opposites: where depth is compared
BLOCK = 1 << 20  # pixels of discs painted at once
SHINE = 0.3  # how much of a line is seen through what hides it


@dataclass(frozen=True, eq=False)
class View:
    """A camera to look with. Perspective, unless ``parallel``: then focal is pixels per unit."""

    T_map_view: np.ndarray  # (4, 4)
    width: int  # pixels
    height: int  # pixels
    focal: float  # pixels
    parallel: bool = False

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, 3) in the map → pixels (M, 2) and depth (M,). Points behind the view have no useful pixel."""
        pose = np.asarray(self.T_map_view, float)
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = local[:, 2]
        scale = self.focal if self.parallel else self.focal / np.maximum(depth, 1e-9)[:, None]
        return local[:, :2] * scale + np.array([self.width - 1, self.height - 1]) / 2, depth

    def enlarged(self, factor: int) -> View:
        return View(
            self.T_map_view, self.width * factor, self.height * factor, self.focal * factor, self.parallel
        )


def look_at(
    eye: np.ndarray, target: np.ndarray, up: np.ndarray, width: int, height: int, hfov: float = 55.0
) -> View:
    """Return an upright view from ``eye`` towards ``target``; hfov in degrees."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = eye
    return View(pose, width, height, width / 2 / math.tan(math.radians(hfov) / 2))


@dataclass(frozen=True, eq=False)
class Line:
    """A line drawn among the points, hidden by what is in front of it."""

    points: np.ndarray  # (N, 3) in the map
    colour: tuple[int, int, int]
    width: float = 3.0  # pixels


def render(
    points: np.ndarray,
    colours: np.ndarray,
    view: View,
    size: float,
    lines: Sequence[Line] = (),
    paper: tuple[int, int, int] = PAPER,
) -> np.ndarray:
    """Return (height, width, 3) uint8. points (M, 3), colours (M, 3) uint8, size: of a point, in map units.

    It is drawn twice as large and then reduced, for smooth edges.
    """
    known = np.isfinite(points).all(1)
    points, colours = points[known], colours[known]
    large = view.enlarged(2)
    pixels, depth = large.project(points)
    radius = np.full(len(points), size / 2 * large.focal)
    cloud = [
        _discs(pixels, depth, radius if view.parallel else radius / np.maximum(depth, 1e-9), colours, large)
    ]
    drawn = [_discs_of(line, large) for line in lines]
    picture, _ = painted([*cloud, *drawn], large, paper)
    if drawn:
        through, surface = painted(drawn, large, paper)
        picture = np.where(np.isfinite(surface)[..., None], picture * (1 - SHINE) + through * SHINE, picture)
    quarter = picture.reshape(view.height, 2, view.width, 2, 3).mean((1, 3))
    return quarter.round().astype(np.uint8)


class Discs(NamedTuple):
    """The discs that touch the picture."""

    pixels: np.ndarray  # (n, 2) int
    depth: np.ndarray  # (n,)
    radius: np.ndarray  # (n,) int
    colours: np.ndarray  # (n, 3) uint8


def _discs(
    pixels: np.ndarray, depth: np.ndarray, radius: np.ndarray, colours: np.ndarray, view: View
) -> Discs:
    inside = depth > NEAREST * depth.max(initial=0.0)
    for axis, limit in enumerate((view.width, view.height)):
        inside &= (pixels[:, axis] > -MOST_RADIUS) & (pixels[:, axis] < limit + MOST_RADIUS)
    whole = np.clip(np.round(radius[inside]), 0, MOST_RADIUS).astype(int)
    return Discs(pixels[inside].round().astype(int), depth[inside], whole, colours[inside])


def _discs_of(line: Line, view: View) -> Discs:
    dense = _resampled(line.points, view)
    pixels, depth = view.project(dense)
    colours = np.broadcast_to(np.array(line.colour, np.uint8), (len(dense), 3))
    return _discs(pixels, depth, np.full(len(dense), line.width), colours, view)


def painted(parts: Sequence[Discs], view: View, paper: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture (H, W, 3) float32 with shaded edges, and depth (H, W), infinite where nothing is."""
    all_discs = Discs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(-all_discs.depth, kind="stable")  # far to near: what comes later covers what was there
    spans = [_disc(radius) for radius in range(MOST_RADIUS + 1)]
    spread = np.concatenate(spans)
    sizes = np.array([len(span) for span in spans])
    starts = np.cumsum(sizes) - sizes
    counts = sizes[all_discs.radius[order]]
    last = np.full(view.height * view.width, -1)  # which disc is seen in each pixel
    blocks = np.arange(0, counts.sum() + BLOCK, BLOCK)
    for start, end in pairwise(np.searchsorted(np.cumsum(counts), blocks, side="right")):
        count = counts[start:end]
        owner = np.repeat(order[start:end], count)
        first = np.repeat(np.cumsum(count) - count, count)
        offset = spread[starts[all_discs.radius[owner]] + np.arange(len(owner)) - first]
        column, row = (all_discs.pixels[owner] + offset).T
        inside = (column >= 0) & (column < view.width) & (row >= 0) & (row < view.height)
        last[(row * view.width + column)[inside]] = owner[inside]  # of several, NumPy keeps the last
    seen = last >= 0
    image = np.empty((len(last), 3), np.float32)
    image[:] = paper
    image[seen] = all_discs.colours[last[seen]]
    depth = np.full(len(last), np.inf, np.float32)
    depth[seen] = all_discs.depth[last[seen]]
    surface = depth.reshape(view.height, view.width)
    return image.reshape(view.height, view.width, 3) * shading(surface)[..., None], surface


def shading(surface: np.ndarray) -> np.ndarray:
    """(H, W) depth, infinite where nothing is → (H, W) brightness, lower behind a depth edge."""
    far = surface[np.isfinite(surface)].max(initial=1.0) * 1.5
    level = np.log2(np.where(np.isfinite(surface), surface, far))
    height, width = level.shape
    padded = np.pad(level, 2, mode="edge")
    behind = np.zeros_like(level)
    for dx, dy in STEPS:
        for sign in (1, -1):
            y, x = 2 + sign * dy, 2 + sign * dx
            behind += np.clip(level - padded[y : y + height, x : x + width], 0, 0.5)
    return np.where(np.isfinite(surface), np.exp(-SHADE * behind), 1.0)


def _disc(radius: int) -> np.ndarray:
    """Offsets (n, 2) of the pixels within ``radius``."""
    reach = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(reach, reach)
    within = x**2 + y**2 <= (radius + 0.4) ** 2
    return np.stack([x[within], y[within]], 1)


def _resampled(points: np.ndarray, view: View) -> np.ndarray:
    """Return points so dense that neighbours are within a pixel, but at most 200 per piece."""
    pixels, depth = view.project(points)
    dense = [points[:1]]
    for i in range(len(points) - 1):
        seen = depth[i] > 0 and depth[i + 1] > 0
        count = int(np.clip(np.abs(pixels[i + 1] - pixels[i]).max(), 1, 200)) if seen else 1
        share = np.arange(1, count + 1)[:, None] / count
        dense.append(points[i] * (1 - share) + points[i + 1] * share)
    return np.concatenate(dense)
