"""The messages of the synthetic camera."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from loger_ros.ros.motion_messages import fill_pose, transform_message


def odometry_message(head: Header, child: str, pose: np.ndarray, twist: np.ndarray) -> Odometry:
    message = Odometry(header=head, child_frame_id=child)
    fill_pose(message.pose.pose, pose)
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
    return message


def qos(depth: int, reliable: bool = True) -> QoSProfile:
    kind = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=kind)


class TransformPublisher:
    """Publishes /tf and /tf_static if tf2_msgs is installed."""

    def __init__(self, node: Node) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().warning(
                "no TF is published, because the package tf2_msgs is missing: install "
                "ros-<distribution>-tf2-msgs, or run tools/make_tf2_msgs.py if ROS is from pip; "
                "publish_tf:=false silences this"
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
