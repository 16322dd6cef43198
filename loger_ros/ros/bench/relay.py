"""The least a node can cost: takes images as our node does and answers each with as many bytes."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from loger_ros.ros import interface
from loger_ros.ros.inputs import NO_EVENTS, silent_node
from loger_ros.ros.interface import qos_profile
from loger_ros.ros.odometry import Motion
from loger_ros.ros.packed_messages import PackedOdometry, PackedPose, PackedTransforms
from loger_ros.ros.process import running_ros
from loger_ros.ros.receiver import Receiver

STILL = Motion(0, np.eye(4), np.eye(4), np.eye(6), np.zeros(6), np.eye(6))


class Relay(Node):
    def __init__(self) -> None:
        super().__init__("relay")
        self._taken = 0
        edges = [("map", "odom"), ("odom", "base_link")]
        self._answers = [
            (self.create_publisher(kind, topic.name, qos_profile(topic)), data)
            for kind, topic, data in (
                (Odometry, interface.ODOMETRY, PackedOdometry("odom", "base_link").of(STILL)),
                (PoseWithCovarianceStamped, interface.POSE, PackedPose("map").of(0, np.eye(4), np.eye(6))),
                (TFMessage, interface.TF, PackedTransforms(edges).of(0, [np.eye(4)] * 2)),
            )
        ]
        topic = interface.DIAGNOSTICS
        self._diagnostics = self.create_publisher(DiagnosticArray, topic.name, qos_profile(topic))
        self.create_timer(1.0, self._report)
        self._reader = silent_node(self, "relay_images")
        images = self._reader.create_subscription(
            Image,
            interface.IMAGE.name,
            self._take,
            qos_profile(interface.IMAGE),
            event_callbacks=NO_EVENTS,
            raw=True,
        )
        self.receiver = Receiver(self.context, "images", lambda error: print(error, file=sys.stderr))
        self.receiver.listen(images, self._take)

    def _take(self, received: Any) -> None:
        self._taken += 1
        for publisher, data in self._answers:
            publisher.publish(data)

    def _report(self) -> None:
        """Publish what our node would report of itself."""
        values = {"frames_processed": self._taken, "process_processor_s": time.process_time()}
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self._diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name="relay", values=pairs)]))


def main(args: list[str] | None = None) -> int:
    with running_ros(args):
        relay = Relay()
        relay.receiver.start()
        executor = SingleThreadedExecutor()
        executor.add_node(relay)
        try:
            executor.spin()
        finally:
            relay.receiver.close(1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
