"""Pictures of a cloud and the paths through it: from above with a scale, from the side, and along the path.

Everything is in one frame whose z points up: see ``levelling`` for maps with another orientation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from loger_ros.mapping.render import PAPER, Line, View, look_at, render
from loger_ros.resampling import FILTERS

INK = (60, 60, 64)
ESTIMATE, TRUTH = (214, 60, 40), (30, 90, 200)
MARGIN = 0.06  # of the picture's width, left free around what is shown
TALLEST = 1.4  # times as high as wide: the most that a chart can be
FADED = 0.45  # share of the cloud's colour that is left under the chart's lines
CEILING = 0.75  # what is above this share of the height from the cameras to the top is cut away
CELL, COMPANY = 4, 6  # a cell of CELL point sizes with fewer than COMPANY points holds strays
CROWD = 1.0  # percent of the points at each end that may lie outside the picture
BAR = 0.25  # of the width: the longest scale bar
FOLLOW, FOLLOWERS = 0.06, 20  # how far behind, as a share of the path; number of places that are tried
IN_THE_WAY = 0.7  # of that distance: what is nearer is in front of the camera that is followed
ELEVATION = 0.95  # rad above the horizon, of the view from the side
REDUCED = 10  # how many times smaller the picture is in which places are tried
CLOSE = 1.6  # how many times larger points are drawn if they are seen from near
UP = np.array([0.0, 0.0, 1.0])
UPRIGHT = 0.01  # how much it counts that cameras are held upright, compared with how they turn
CLEARLY = 2.0  # how many times more cameras turn about an axis that is up than they nod and roll
LEANING = 0.7  # cosine of the angle that a camera looks up or down at most


@dataclass(frozen=True, eq=False)
class Track:
    """Where a camera was."""

    name: str
    T_map_camera: np.ndarray  # (N, 4, 4)
    colour: tuple[int, int, int]

    @property
    def points(self) -> np.ndarray:
        return self.T_map_camera[:, :3, 3]


@dataclass(frozen=True, eq=False)
class Scene:
    """What is to be shown."""

    points: np.ndarray  # (M, 3)
    colours: np.ndarray  # (M, 3) uint8
    tracks: Sequence[Track]  # the cloud was seen from the first one
    point_size: float  # diameter in map units, such as the map's voxel size
    unit: str = "m"  # what a map unit is called

    def without_ceiling(self) -> Scene:
        """Return what a camera sees that looks into the rooms from above."""
        if not len(self.points):
            return self
        eye = float(np.median(self.tracks[0].points[:, 2]))
        top = float(np.percentile(self.points[:, 2], 100 - CROWD))
        if top <= eye:
            return self
        low = self.points[:, 2] < eye + CEILING * (top - eye)
        return replace(self, points=self.points[low], colours=self.colours[low])

    def without_strays(self) -> Scene:
        """Return the scene without points that have few others around them."""
        cells = np.floor(self.points / (CELL * self.point_size)).astype(np.int64)
        _, which, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        company = count[which.reshape(-1)] >= COMPANY
        return replace(self, points=self.points[company], colours=self.colours[company])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The box around all tracks and nearly all points."""
        every = np.concatenate([track.points for track in self.tracks])
        low, high = every.min(0), every.max(0)
        if len(self.points):
            low = np.minimum(low, np.percentile(self.points, CROWD, axis=0))
            high = np.maximum(high, np.percentile(self.points, 100 - CROWD, axis=0))
        return low - self.point_size, high + self.point_size


def levelling(T_map_camera: np.ndarray) -> np.ndarray:
    """Return (4, 4) to turn a map so that z is up, if cameras were mostly upright; x is the first heading.

    Up is the axis that cameras turn about, even if they look down. If they hardly turn, or nod as much, it is
    their own up.
    """
    up = -T_map_camera[:, :3, 1].mean(0)
    up /= max(np.linalg.norm(up), 1e-9)
    mean = T_map_camera[:, :3, :3].mean(0)  # an axis that cameras turn about keeps its length in it
    lengths, axes = np.linalg.eigh(mean @ mean.T + UPRIGHT * np.outer(up, up))
    axis, clear = axes[:, -1], lengths[-1] - lengths[-2] > CLEARLY * (1 + UPRIGHT - lengths[-1])
    if clear and abs(axis @ up) > LEANING:
        up = axis * np.sign(axis @ up)
    forward = T_map_camera[0, :3, 2] - (T_map_camera[0, :3, 2] @ up) * up
    forward /= max(np.linalg.norm(forward), 1e-9)
    result = np.eye(4)
    result[:3, :3] = np.stack([forward, np.cross(up, forward), up])
    return result


def from_above(scene: Scene, title: str, width: int = 900) -> Image.Image:
    """Draw the chart: the faded cloud without its ceiling, the tracks, a scale bar and a legend."""
    scene = scene.without_ceiling()
    low, high = scene.bounds()
    span = high - low
    head = 64
    focal = width * min((1 - 2 * MARGIN) / span[0], (TALLEST - 2 * MARGIN) / span[1])
    height = int(np.ceil(max(span[1] * focal + 2 * MARGIN * width, 0.35 * width)))
    centre = (low + high) / 2
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]).T
    pose[:3, 3] = [centre[0], centre[1], high[2] + span.max() + 1.0]
    view = View(pose, width, height, focal, parallel=True)
    plan = render(scene.points, scene.colours, view, scene.point_size)
    plan = (plan * FADED + np.array(PAPER) * (1 - FADED)).astype(np.uint8)
    sheet = Image.new("RGB", (2 * width, 2 * (height + head)), PAPER)  # lines are smooth at twice the size
    large = Image.fromarray(plan).resize((2 * width, 2 * height), FILTERS.BICUBIC)
    sheet.paste(large, (0, 2 * head))
    draw = ImageDraw.Draw(sheet)
    for track in reversed(scene.tracks):
        pixels = view.project(track.points)[0] * 2 + [0.0, 2.0 * head]
        corners = [tuple(pixel) for pixel in pixels.tolist()]
        draw.line(corners, fill=track.colour, width=6, joint="curve")
        _dot(draw, corners[0], 14, PAPER, track.colour)
        _dot(draw, corners[-1], 12, track.colour, PAPER)
    draw.text((28, 22), title, fill=INK, font=font(36))
    _legend(draw, scene.tracks, 2 * width - 28, 26)
    _scale_bar(draw, 2 * focal, scene.unit, 2 * width, 2 * (height + head) - 40)
    return sheet.resize((width, height + head), FILTERS.LANCZOS)


def from_the_side(scene: Scene, width: int = 1200, height: int = 800) -> Image.Image:
    """Draw the view from outside and above, into the rooms, with the tracks."""
    scene = scene.without_ceiling()
    low, high = scene.bounds()
    span = high - low
    # Along the shorter side, so that the longer one fills the width.
    side = np.array([0.35, -1.0, 0.0]) if span[0] >= span[1] else np.array([-1.0, -0.35, 0.0])
    direction = side / np.linalg.norm(side) * math.cos(ELEVATION) + UP * math.sin(ELEVATION)
    inside = scene.points[((scene.points >= low) & (scene.points <= high)).all(1)]
    shown = np.concatenate([inside, *(track.points for track in scene.tracks)])
    centre, distance = (low + high) / 2, 4 * float(span.max())
    for _ in range(6):  # sideways and nearer, until it just fits
        view = look_at(centre + distance * direction, centre, UP, width, height, 30.0)
        pixels, _ = view.project(shown)
        first, last = pixels.min(0), pixels.max(0)
        off = (first + last) / 2 - np.array([width - 1, height - 1]) / 2
        centre = centre + view.T_map_view[:3, :2] @ off * distance / view.focal
        distance *= max(float(((last - first) / [width, height]).max()) * (1 + 2 * MARGIN), 0.1)
    view = look_at(centre + distance * direction, centre, UP, width, height, 30.0)
    return Image.fromarray(_with_tracks(scene, view))


def along_the_path(scene: Scene, width: int = 1200, height: int = 800) -> Image.Image:
    """Draw what a follower behind the camera sees, at the place where the view is fullest."""
    scene = replace(scene, point_size=CLOSE * scene.point_size)
    small = (width // REDUCED, height // REDUCED)
    back, views = _followers(scene, *small)
    best = max(views, key=lambda view: _filled(scene, view) - 2 * _filled(scene, view, IN_THE_WAY * back))
    return Image.fromarray(_with_tracks(scene, best.enlarged(REDUCED)))


def _followers(scene: Scene, width: int, height: int) -> tuple[float, list[View]]:
    """Return how far behind the first track's camera, and the views from there at places along its path."""
    poses = scene.tracks[0].T_map_camera
    way = float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
    back = max(FOLLOW * way, 5 * scene.point_size)
    views = []
    for number in np.linspace(0, len(poses) * 0.9, FOLLOWERS).astype(int):
        place = poses[number, :3, 3]
        forward = poses[number, :3, 2] * [1, 1, 0]
        forward = forward / max(np.linalg.norm(forward), 1e-9)
        eye = place - forward * back + UP * back * 0.7
        views.append(look_at(eye, place + forward * back, UP, width, height, 75.0))
    return back, views


def _filled(scene: Scene, view: View, nearer: float = math.inf) -> float:
    """Return the share of the pixels with a point in them that is nearer than ``nearer``."""
    pixels, depth = view.project(scene.points)
    column, row = pixels[(depth > 0) & (depth < nearer)].round().astype(int).T
    inside = (column >= 0) & (column < view.width) & (row >= 0) & (row < view.height)
    return len(np.unique(row[inside] * view.width + column[inside])) / (view.width * view.height)


def _with_tracks(scene: Scene, view: View) -> np.ndarray:
    lines = [Line(track.points, track.colour) for track in scene.tracks]
    return render(scene.points, scene.colours, view, scene.point_size, lines)


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _dot(draw: ImageDraw.ImageDraw, place: tuple, radius: int, fill: tuple, ring: tuple) -> None:
    x, y = place
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=ring, width=5)


def _legend(draw: ImageDraw.ImageDraw, tracks: Sequence[Track], right: float, y: float) -> None:
    text = font(28)
    for track in reversed(tracks):
        right -= draw.textlength(track.name, font=text)
        draw.text((right, y), track.name, fill=INK, font=text)
        right -= 16
        draw.line([right - 50, y + 20, right, y + 20], fill=track.colour, width=8)
        right -= 50 + 44


def _scale_bar(draw: ImageDraw.ImageDraw, focal: float, unit: str, width: int, y: float) -> None:
    """Draw the longest of 1, 2, 5, 10, … that is not too long."""
    most = BAR * width / focal
    size = 10 ** math.floor(math.log10(most))
    length = max(size * step for step in (1, 2, 5) if size * step <= most)
    left, right = 28, 28 + length * focal
    draw.line([left, y, right, y], fill=INK, width=5)
    for end in (left, right):
        draw.line([end, y - 10, end, y + 10], fill=INK, width=5)
    draw.text((right + 16, y - 17), f"{length:g} {unit}", fill=INK, font=font(28))
