"""True depth, which belongs to a recording's own images, as the network's camera sees it.

Both cameras are at one place and depth is along the axis of the recording's camera, so it keeps its value;
only its pixel changes.
"""

from __future__ import annotations

import cv2
import numpy as np

from loger_ros.stream.lens import bends, is_fisheye, rays, scaled, turn_between
from loger_ros.types import Camera


class SeenDepth:
    def __init__(self, source: Camera | None, network: Camera | None) -> None:
        """source: camera of the recording's images. network: of those the network saw; None: only resized."""
        self._source, self._network = source, network
        self._turn = turn_between(network, source.T_base_camera if source else None)
        self._sizes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self._pixels = np.zeros((0, 0, 2))  # positions in the depth image, x first

    def at(self, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Resample (H, W) metres to ``size``, (height, width); NaN where unknown."""
        if self._sizes != (depth.shape, size):
            self._pixels = self._places(depth.shape, size)
            self._sizes = (depth.shape, size)
        x, y = np.floor(self._pixels + 0.5).astype(int).transpose(2, 0, 1)
        height, width = depth.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        seen = depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].astype(np.float32)
        return np.where(inside & np.isfinite(seen) & (seen > 0), seen, np.nan)

    def rays(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return (height, width, 2): x and y of the network's viewing directions (x, y, 1); None if unknown.

        They are in the axes of the camera, even if the network's images are rotated relative to it.
        """
        height, width = size
        camera = self._network
        if camera is None and self._source is not None and not bends(self._source):
            camera = scaled(self._source, (width, height))
        return None if camera is None else _slopes(camera, size, self._turn)

    def _places(self, depth: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
        height, width = size
        if self._network is None or self._source is None:
            x, y = np.meshgrid(np.arange(width), np.arange(height))
            share = np.array([depth[1] / width, depth[0] / height])
        else:
            x, y = _seen_by(self._source, _slopes(self._network, size, self._turn)).transpose(2, 0, 1)
            share = np.array([depth[1] / self._source.width, depth[0] / self._source.height])
        return (np.stack([x, y], -1) + 0.5) * share - 0.5


def _slopes(camera: Camera, size: tuple[int, int], turn: np.ndarray | None) -> np.ndarray:
    directions = rays(scaled(camera, size[::-1]), turn)
    return directions[..., :2] / directions[..., 2:]


def _seen_by(camera: Camera, rays: np.ndarray) -> np.ndarray:
    """Return the pixels at which a camera, with its lens, sees directions (..., 2)."""
    flat = np.concatenate([rays.reshape(-1, 2), np.ones((rays.size // 2, 1))], 1)
    still = np.zeros(3)
    lens = np.asarray(camera.distortion, dtype=float)
    if is_fisheye(camera):
        pixels, _ = cv2.fisheye.projectPoints(flat[None], still, still, camera.matrix, lens[:4])
    else:
        pixels, _ = cv2.projectPoints(flat, still, still, camera.matrix, lens if len(lens) else None)
    return pixels.reshape(rays.shape)
