"""Motions → messages. Stamps are integers all the way."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry

from loger_ros.geometry import quaternion
from loger_ros.ros.messages import header
from loger_ros.ros.odometry import Motion


def odometry_message(motion: Motion, odom: str, base: str) -> Odometry:
    message = Odometry(header=header(motion.stamp, odom), child_frame_id=base)
    fill_pose(message.pose.pose, motion.T_odom_base)
    message.pose.covariance = motion.covariance.ravel()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = motion.twist.tolist()
    message.twist.covariance = motion.twist_covariance.ravel()
    return message


def transform_message(stamp: int, parent: str, child: str, pose: np.ndarray) -> TransformStamped:
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    shift, turn = message.transform.translation, message.transform.rotation
    shift.x, shift.y, shift.z = pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(pose[:3, :3]).tolist()
    return message


def pose_message(
    stamp: int, frame: str, pose: np.ndarray, covariance: np.ndarray
) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped(header=header(stamp, frame))
    fill_pose(message.pose.pose, pose)
    message.pose.covariance = covariance.ravel()
    return message


def fill_pose(message: Pose, pose: np.ndarray) -> None:
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose[:3, 3].tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion(pose[:3, :3]).tolist()
