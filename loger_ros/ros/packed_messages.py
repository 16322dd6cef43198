"""Messages of every image, as the bytes that DDS sends: made once, then only stamps and numbers change.

Filling a message object and having rclpy turn it into bytes costs several times what sending these does.
What changes is in two places: a stamp after a known beginning, and float64 numbers at the end.
"""

from __future__ import annotations

import struct

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from tf2_msgs.msg import TFMessage

from loger_ros.ros.messages import header
from loger_ros.ros.motion_messages import quaternion, transform_message
from loger_ros.ros.odometry import Motion

HEAD = 4  # bytes before every message, which state its encoding
POSE, MATRIX = 7, 36  # numbers


class _Bytes:
    def __init__(self, message: object) -> None:
        self._bytes = bytearray(serialize_message(message))
        self._order = "<" if self._bytes[1] & 1 else ">"

    def numbers(self, count: int, end: int | None = None) -> np.ndarray:
        """A view of the float64 numbers before ``end``."""
        start = (len(self._bytes) if end is None else end) - 8 * count
        return np.ndarray(count, f"{self._order}f8", self._bytes, start)

    def stamp(self, at: int, stamp: int) -> None:
        struct.pack_into(f"{self._order}iI", self._bytes, at, *divmod(stamp, 1_000_000_000))

    def copy(self) -> bytes:
        return bytes(self._bytes)


class PackedOdometry:
    def __init__(self, odom: str, base: str) -> None:
        self._bytes = _Bytes(Odometry(header=header(0, odom), child_frame_id=base))
        numbers = self._bytes.numbers(POSE + MATRIX + 6 + MATRIX)
        self._pose, self._covariance, self._twist, self._twist_covariance = np.split(
            numbers, np.cumsum([POSE, MATRIX, 6])
        )

    def of(self, motion: Motion) -> bytes:
        self._bytes.stamp(HEAD, motion.stamp)
        _put(self._pose, motion.T_odom_base)
        self._covariance[:] = motion.covariance.ravel()
        self._twist[:] = motion.twist
        self._twist_covariance[:] = motion.twist_covariance.ravel()
        return self._bytes.copy()


class PackedPose:
    """A PoseWithCovarianceStamped."""

    def __init__(self, frame: str) -> None:
        self._bytes = _Bytes(PoseWithCovarianceStamped(header=header(0, frame)))
        self._pose, self._covariance = np.split(self._bytes.numbers(POSE + MATRIX), [POSE])

    def of(self, stamp: int, pose: np.ndarray, covariance: np.ndarray) -> bytes:
        self._bytes.stamp(HEAD, stamp)
        _put(self._pose, pose)
        self._covariance[:] = covariance.ravel()
        return self._bytes.copy()


class PackedTransforms:
    """A TFMessage with these edges (parent, child)."""

    def __init__(self, edges: list[tuple[str, str]]) -> None:
        blank = [transform_message(0, parent, child, np.eye(4)) for parent, child in edges]
        self._bytes = _Bytes(TFMessage(transforms=blank))
        # Each ends with its numbers, where the next one begins. Their count comes before the first one.
        ends = [
            len(serialize_message(TFMessage(transforms=blank[:count]))) for count in range(len(blank) + 1)
        ]
        ends[0] = HEAD + 4
        self._stamps = ends[:-1]
        self._poses = [self._bytes.numbers(POSE, end) for end in ends[1:]]

    def of(self, stamp: int, poses: list[np.ndarray]) -> bytes:
        for at, place, pose in zip(self._stamps, self._poses, poses, strict=True):
            self._bytes.stamp(at, stamp)
            _put(place, pose)
        return self._bytes.copy()


def _put(place: np.ndarray, pose: np.ndarray) -> None:
    place[:3] = pose[:3, 3]
    place[3:] = quaternion(pose)
