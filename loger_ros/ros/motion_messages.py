"""Makes messages from poses. Stamps stay integers. packed_messages.py has those sent for every image."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import Pose, TransformStamped

from loger_ros.ros.messages import header


def transform_message(stamp: int, parent: str, child: str, pose: np.ndarray) -> TransformStamped:
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    shift, turn = message.transform.translation, message.transform.rotation
    shift.x, shift.y, shift.z = pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(pose)
    return message


def fill_pose(message: Pose, pose: np.ndarray) -> None:
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose[:3, 3].tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion(pose)


def quaternion(pose: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, w with w >= 0. Like that of ``loger_ros.geometry``, without NumPy's cost for a single one."""
    (a, b, c), (d, e, f), (g, h, i) = pose[:3, :3].tolist()
    squares = (1 + a - e - i, 1 - a + e - i, 1 - a - e + i, 1 + a + e + i)  # 4 x², 4 y², 4 z², 4 w²
    largest = max(range(4), key=squares.__getitem__)
    if largest == 0:
        x, y, z, w = squares[0], b + d, c + g, h - f
    elif largest == 1:
        x, y, z, w = b + d, squares[1], f + h, c - g
    elif largest == 2:
        x, y, z, w = c + g, f + h, squares[2], d - b
    else:
        x, y, z, w = h - f, c - g, d - b, squares[3]
    length = math.copysign(math.sqrt(x * x + y * y + z * z + w * w), w)
    return x / length, y / length, z / length, w / length
