"""Depth and confidence of one frame as images, at the size of the network image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from loger_ros.ros.messages import image_message
from loger_ros.types import Camera

ENCODING = "32FC1"
STEPS = 16  # pixels in each direction that a camera is fitted to; more make no difference


def depth_message(depth: np.ndarray, header: Header) -> Image:
    """(H, W) along the optical axis, in map units. An unknown depth is NaN, as REP-118 requires."""
    known = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
    return image_message(header, known.astype(np.float32, copy=False), ENCODING)


def confidence_message(confidence: np.ndarray, header: Header) -> Image:
    """(H, W), 0 to 1."""
    return image_message(header, confidence.astype(np.float32, copy=False), ENCODING)


def as_taken(view: Camera, turn: np.ndarray | None) -> Camera:
    """The camera of ``turned_back`` images. If it lies on its side, its height is the width of the view."""
    if turn is None or abs(turn[0, 0]) >= abs(turn[0, 1]):
        return view
    across = [1, 0, 2]
    return replace(view, width=view.height, height=view.width, matrix=view.matrix[across][:, across])


def turned_back(
    image: np.ndarray, camera: Camera | None, turn: np.ndarray | None, beyond: float
) -> np.ndarray:
    """Turn (H, W) float32 of the network's view to the camera's pixels; ``beyond`` is used outside of it."""
    if camera is None or turn is None:
        return image
    taken = as_taken(camera, turn)
    there = camera.matrix @ turn @ np.linalg.inv(taken.matrix)
    return cv2.warpPerspective(
        image.astype(np.float32, copy=False),
        there,
        (taken.width, taken.height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderValue=beyond,
    )


def fitted_camera(local_points: np.ndarray) -> Camera | None:
    """The pinhole camera that saw the points (H, W, 3) of one frame, fitted by least squares.

    For cameras that publish no camera_info. None if too few points are known.
    """
    height, width = local_points.shape[:2]
    rows = np.unique(np.linspace(0, height - 1, STEPS).round().astype(int))
    columns = np.unique(np.linspace(0, width - 1, STEPS).round().astype(int))
    v, u = np.meshgrid(rows, columns, indexing="ij")
    points = local_points[v, u].astype(float)
    known = np.isfinite(points).all(-1) & (points[..., 2] > 0)
    rays = points[known][:, :2] / points[known][:, 2:]
    matrix = np.eye(3)
    for axis, pixels in enumerate((u[known], v[known])):
        spread = rays[:, axis] - rays[:, axis].mean() if len(rays) else rays[:, axis]
        if not np.any(np.abs(spread) > 1e-6):
            return None
        focal = float(spread @ (pixels - pixels.mean()) / (spread @ spread))
        matrix[axis, axis] = focal
        matrix[axis, 2] = pixels.mean() - focal * rays[:, axis].mean()
    return Camera(width, height, matrix) if matrix[0, 0] > 0 and matrix[1, 1] > 0 else None
