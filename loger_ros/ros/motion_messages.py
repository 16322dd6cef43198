"""Motions → messages. Stamps are integers all the way.

At camera rate most of the time goes into making message objects; so those are made once and filled anew.
"""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from std_msgs.msg import Header

from loger_ros.ros.messages import header
from loger_ros.ros.odometry import Motion


def odometry_message(odom: str, base: str) -> Odometry:
    return Odometry(header=header(0, odom), child_frame_id=base)


def fill_odometry(message: Odometry, motion: Motion) -> Odometry:
    fill_stamp(message.header, motion.stamp)
    fill_pose(message.pose.pose, motion.T_odom_base)
    message.pose.covariance = motion.covariance.ravel()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = motion.twist.tolist()
    message.twist.covariance = motion.twist_covariance.ravel()
    return message


def transform_message(stamp: int, parent: str, child: str, pose: np.ndarray) -> TransformStamped:
    message = TransformStamped(header=header(0, parent), child_frame_id=child)
    return fill_transform(message, stamp, pose)


def fill_transform(message: TransformStamped, stamp: int, pose: np.ndarray) -> TransformStamped:
    fill_stamp(message.header, stamp)
    shift, turn = message.transform.translation, message.transform.rotation
    shift.x, shift.y, shift.z = pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(pose)
    return message


def pose_message(frame: str) -> PoseWithCovarianceStamped:
    return PoseWithCovarianceStamped(header=header(0, frame))


def fill_pose_with_covariance(
    message: PoseWithCovarianceStamped, stamp: int, pose: np.ndarray, covariance: np.ndarray
) -> PoseWithCovarianceStamped:
    fill_stamp(message.header, stamp)
    fill_pose(message.pose.pose, pose)
    message.pose.covariance = covariance.ravel()
    return message


def fill_stamp(head: Header, stamp: int) -> None:
    head.stamp.sec, head.stamp.nanosec = divmod(stamp, 1_000_000_000)


def fill_pose(message: Pose, pose: np.ndarray) -> None:
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose[:3, 3].tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion(pose)


def quaternion(pose: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, w with w >= 0. As ``loger_ros.geometry`` has it, without NumPy's cost for a single one."""
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
