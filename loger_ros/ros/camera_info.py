"""Makes a Camera from sensor_msgs/CameraInfo, for the node and for bags."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from loger_ros.stream.lens import check_lens, scaled
from loger_ros.types import Camera

LONGEST, SHORTEST = 100, 0.05  # focal length in image widths: half a degree of view; less than any lens has
OFF_CENTRE = 1.0  # image sizes that the principal point may lie outside (a crop of a large sensor)


def is_rectified(image_topic: str, told: str = "auto") -> bool:
    """Whether image_proc rectified the images (image_rect, image_rect_color). told: ``input.rectified``."""
    if told != "auto":
        return told == "always"
    return re.search(r"/image_rect(ified)?(_\w+)?(/|$)", image_topic) is not None


def camera_of(message: Any, rectified: bool = False) -> Camera | None:
    """Return the camera of a sensor_msgs/CameraInfo; None if it is not calibrated. ValueError: unusable.

    The calibration is for all pixels. Images may be a part of them (roi), have several in one (binning) and
    be ``rectified`` by image_proc. ROS 1 has the names of the fields in upper case.
    """
    straight, whole, lens = (_field(message, name) for name in "pkd")
    matrix = np.array(straight if rectified else whole, dtype=float).reshape(3, -1)[:, :3]
    distortion = () if rectified else tuple(float(value) for value in lens)
    if not (np.isfinite(matrix).all() and np.isfinite(distortion).all()):
        raise ValueError("its numbers are not finite")
    if not (message.width and message.height and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        return None
    _check_pinhole(matrix, message.width, message.height)
    roi = message.roi
    matrix[:2, 2] -= roi.x_offset, roi.y_offset
    width, height = roi.width or message.width, roi.height or message.height
    model = "plumb_bob" if rectified else message.distortion_model or "plumb_bob"
    camera = Camera(width, height, matrix, distortion, model)
    check_lens(camera)
    binned = width // max(1, message.binning_x), height // max(1, message.binning_y)
    return camera if binned == (width, height) or 0 in binned else scaled(camera, binned)


def _check_pinhole(matrix: np.ndarray, width: int, height: int) -> None:
    focal, centre, size = matrix[[0, 1], [0, 1]], matrix[:2, 2], np.array([width, height])
    if focal.max() > LONGEST * size.max() or focal.min() < SHORTEST * size.max():
        wrong = f"a focal length of {focal[0]:.4g} x {focal[1]:.4g} pixels"
    elif (centre < -OFF_CENTRE * size).any() or (centre > (1 + OFF_CENTRE) * size).any():
        wrong = f"a principal point at {centre[0]:.4g}, {centre[1]:.4g}"
    else:
        return
    raise ValueError(f"no lens has {wrong} for {width}x{height} pixels; K may be for another image size")


def _field(message: Any, name: str) -> Any:
    return getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
