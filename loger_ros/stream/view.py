"""One camera's images as another one would have taken them from the same place."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from loger_ros.config import NO_PITCH
from loger_ros.geometry import transform
from loger_ros.stream.lens import is_fisheye, rays, reach, scaled
from loger_ros.types import Camera

_LEFT = 2  # halving leaves at least this many times the resolution of a view, and less than twice as many
_APART = 1.6  # pixels between two places that are looked up, at most: more would be visible as flicker
_NOWHERE = -10  # pixel; outside of every image
_FARTHEST_TURN = 40.0  # degrees between the axes; a camera that looks at the ground or up is left as it is


class View:
    """Images of one camera as another one would have taken them from the same place: ``camera``.

    That one has no distortion, square pixels, its axis in the middle and ``field_of_view`` degrees across.
    If the mounting of ``source`` is known, it looks ``pitch`` degrees downwards, unless that is too far
    from where the source looks. What the lens did not see is black.
    """

    def __init__(
        self, source: Camera, size: tuple[int, int], field_of_view: float, pitch: float = NO_PITCH
    ) -> None:
        width, height = size
        focal = width / 2 / math.tan(math.radians(field_of_view) / 2)
        centre = (width - 1) / 2, (height - 1) / 2
        matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
        self.turn = turn_to(source, pitch)  # R_view_camera
        mounted = source.T_base_camera
        if mounted is not None:
            mounted = mounted @ transform(self.turn.T, np.zeros(3))
        self.camera = Camera(width, height, matrix, T_base_camera=mounted)
        # Halved to a few times the wanted size, looked up nearly as finely as that, then averaged.
        excess = max(source.matrix[0, 0], source.matrix[1, 1]) / focal
        most = min(source.width, source.height).bit_length() - 1
        self._halvings = min(most, math.floor(math.log2(max(1.0, excess / _LEFT))))
        small = source.width >> self._halvings, source.height >> self._halvings
        even = small[0] << self._halvings, small[1] << self._halvings  # exact halving takes a quarter as long
        halved = scaled(replace(source, width=even[0], height=even[1]), small)
        self._finer = max(1, math.ceil(excess / 2**self._halvings / _APART))
        fine = (width * self._finer, height * self._finer)
        self._size = size
        self._maps = _maps_of(halved, scaled(self.camera, fine), self.turn)
        self._seen = _cut_to_what_is_seen(self._maps[0], small, self._halvings)
        self._coarse_maps = _maps_of(source, self.camera, self.turn, cv2.CV_32FC1)  # other maps round down
        # depth along the new axis per depth along the old one
        ahead = rays(self.camera, self.turn)[..., 2]
        self._stretch = np.where(ahead > 0, 1 / np.where(ahead > 0, ahead, 1), np.inf).astype(np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        image = image[self._seen]
        for _ in range(self._halvings):
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        seen = cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
        return seen if self._finer == 1 else cv2.resize(seen, self._size, interpolation=cv2.INTER_AREA)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """The same for a depth image (float32): the nearest pixel's, infinite beyond the camera's view."""
        nearest = cv2.remap(
            depth, *self._coarse_maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=np.inf
        )
        return nearest * self._stretch


def attitude(R_base_camera: np.ndarray, pitch: float) -> np.ndarray:
    """Return R_base_view of a camera with the same heading, ``pitch`` degrees downwards, without roll."""
    forward = R_base_camera[:, 2]
    side, down = math.atan2(forward[1], forward[0]), math.radians(pitch)
    ahead = np.array([math.cos(side) * math.cos(down), math.sin(side) * math.cos(down), -math.sin(down)])
    right = np.array([math.sin(side), -math.cos(side), 0.0])
    return np.stack([right, np.cross(ahead, right), ahead], -1)


def turn_to(source: Camera, pitch: float) -> np.ndarray:
    """Return R_view_camera of an upright view ``pitch`` degrees downwards; identity if that is too far."""
    if source.T_base_camera is None or pitch == NO_PITCH:
        return np.eye(3)
    R_base_camera = source.T_base_camera[:3, :3]
    turn = attitude(R_base_camera, pitch).T @ R_base_camera
    return turn if turn[2, 2] >= math.cos(math.radians(_FARTHEST_TURN)) else np.eye(3)


def _cut_to_what_is_seen(places: np.ndarray, size: tuple[int, int], halvings: int) -> tuple[slice, slice]:
    """Return the part of the image, before it is halved to ``size``, that is looked up; places start from it.

    places (h, w, 2): x and y of the first of the pixels that are interpolated between. Changed in place.
    """
    first = np.clip(places.min((0, 1)).astype(int), 0, np.array(size) - 1)
    end = np.clip(places.max((0, 1)).astype(int) + 2, first + 1, size)  # int16 could overflow here
    places -= first.astype(places.dtype)
    (left, top), (right, bottom) = (first << halvings).tolist(), (end << halvings).tolist()
    return slice(top, bottom), slice(left, right)


def _maps_of(
    source: Camera, wanted: Camera, turn: np.ndarray, kind: int = cv2.CV_16SC2
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the pixels of ``wanted``, taken from the same place, are in images of ``source``."""
    coefficients = np.asarray(source.distortion, dtype=float)
    size = (wanted.width, wanted.height)
    if is_fisheye(source):
        maps = cv2.fisheye.initUndistortRectifyMap(
            source.matrix, coefficients[:4], turn, wanted.matrix, size, kind
        )
    else:
        maps = cv2.initUndistortRectifyMap(source.matrix, coefficients, turn, wanted.matrix, size, kind)
    x, y, z = rays(wanted, turn).transpose(2, 0, 1)
    beyond = np.hypot(x, y) > reach(source) * z
    for places in maps if kind == cv2.CV_32FC1 else maps[:1]:
        places[beyond] = _NOWHERE
    return maps
