"""The pinhole camera that fits the predicted points, for recordings that do not describe theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from loger_ros.files import appearing_whole
from loger_ros.types import Camera

MOST_FRAMES = 10_000  # whose focal length is kept
PIXELS = 16  # in each direction, of one frame


class FocalLength:
    """The median focal length over the frames; the principal point is the middle of the image."""

    def __init__(self) -> None:
        self._found: list[float] = []
        self._size = (0, 0)

    def add(self, local_points: np.ndarray) -> None:
        """Add the points (H, W, 3) of one frame, fitted by least squares over a grid of its pixels."""
        height, width = local_points.shape[:2]
        self._size = (width, height)
        rows = np.unique(np.linspace(0, height - 1, PIXELS).round().astype(int))
        columns = np.unique(np.linspace(0, width - 1, PIXELS).round().astype(int))
        points = local_points[rows][:, columns].astype(float)
        pixels = np.stack(np.meshgrid(columns - (width - 1) / 2, rows - (height - 1) / 2), -1)
        known = np.isfinite(points).all(-1) & (points[..., 2] > 0)
        rays = points[known][:, :2] / points[known][:, 2:]
        if len(self._found) < MOST_FRAMES and (rays**2).sum() > 0:
            focal = float((rays * pixels[known]).sum() / (rays**2).sum())
            if focal > 0:
                self._found.append(focal)

    def camera(self) -> Camera | None:
        if not self._found:
            return None
        width, height = self._size
        focal = float(np.median(self._found))
        matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        return Camera(width, height, matrix)


def write_camera(file: Path, camera: Camera, known: bool) -> None:
    """known: whether the recording describes the camera; otherwise it was fitted to the network's points."""
    values = {
        "width": camera.width,
        "height": camera.height,
        "fx": float(camera.matrix[0, 0]),
        "fy": float(camera.matrix[1, 1]),
        "cx": float(camera.matrix[0, 2]),
        "cy": float(camera.matrix[1, 2]),
        "known": known,
        "of": "the images as the network saw them; (0, 0) is the centre of the first pixel",
    }
    with appearing_whole(file) as out:
        out.write((json.dumps(values, indent=1) + "\n").encode())


def read_camera(file: Path) -> Camera:
    try:
        values = json.loads(file.read_text())
        matrix = np.array([[values["fx"], 0, values["cx"]], [0, values["fy"], values["cy"]], [0, 0, 1.0]])
        return Camera(int(values["width"]), int(values["height"]), matrix.astype(float))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not describe a camera ({error!r}): run loger eval again") from error
