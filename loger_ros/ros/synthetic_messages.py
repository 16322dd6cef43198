"""The messages of the synthetic camera."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Quaternion, TransformStamped, Vector3
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from loger_ros.geometry import quaternion
from loger_ros.ros.messages import header


def odometry_message(head: Header, child: str, pose: np.ndarray, twist: np.ndarray) -> Odometry:
    message = Odometry(header=head, child_frame_id=child)
    message.pose.pose.position = Point(**dict(zip("xyz", pose[:3, 3].tolist(), strict=True)))
    message.pose.pose.orientation = _quaternion(pose)
    message.twist.twist.linear = Vector3(**dict(zip("xyz", twist[:3].tolist(), strict=True)))
    message.twist.twist.angular = Vector3(**dict(zip("xyz", twist[3:].tolist(), strict=True)))
    return message


def transform_message(stamp: int, parent: str, child: str, pose: np.ndarray) -> TransformStamped:
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    message.transform.translation = Vector3(**dict(zip("xyz", pose[:3, 3].tolist(), strict=True)))
    message.transform.rotation = _quaternion(pose)
    return message


def _quaternion(pose: np.ndarray) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", quaternion(pose[:3, :3]).tolist(), strict=True)))


def qos(depth: int, reliable: bool = True) -> QoSProfile:
    kind = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=kind)


class TransformPublisher:
    """/tf and /tf_static, where tf2_msgs is installed."""

    def __init__(self, node: Node) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().warning(
                "no TF: the package tf2_msgs is missing; install ros-<distribution>-tf2-msgs, or with ROS "
                "from pip run tools/make_tf2_msgs.py; publish_tf:=false silences this"
            )
            self._message = None
            return
        self._message = TFMessage
        self._moving = node.create_publisher(TFMessage, "/tf", qos(100))
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)

    def publish(self, stamp: int, parent: str, child: str, pose: np.ndarray) -> None:
        if self._message is not None:
            self._moving.publish(self._message(transforms=[transform_message(stamp, parent, child, pose)]))

    def publish_static(self, parent: str, child: str, pose: np.ndarray) -> None:
        if self._message is not None:
            self._static.publish(self._message(transforms=[transform_message(0, parent, child, pose)]))
