"""Messages that all our nodes send: headers, images and camera_info."""

from __future__ import annotations

import sys

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from loger_ros.types import Camera

PLAIN_LENS = (0.0,) * 5


def header(stamp: int, frame: str) -> Header:
    seconds, nanoseconds = divmod(stamp, 10**9)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame)


def image_message(head: Header, picture: np.ndarray, encoding: str) -> Image:
    """picture: (H, W) or (H, W, C), sent as it lies in memory."""
    height, width = picture.shape[:2]
    message = Image(header=head, height=height, width=width, encoding=encoding)
    # In place: what is assigned to `message.data` is copied again, and value by value if it is not an array.
    message.data.frombytes(np.ascontiguousarray(picture).data.cast("B"))
    message.step = len(message.data) // height
    message.is_bigendian = int(sys.byteorder == "big" and picture.itemsize > 1)
    return message


def camera_info_message(head: Header, camera: Camera) -> CameraInfo:
    message = CameraInfo(header=head, height=camera.height, width=camera.width)
    message.distortion_model = camera.model
    message.d = [float(value) for value in camera.distortion or PLAIN_LENS]
    message.k = camera.matrix.reshape(-1)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([camera.matrix, np.zeros((3, 1))]).reshape(-1)
    return message
