"""Listens to both processes, keeps what the table needs and records every message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from loger_ros.ros import interface
from loger_ros.ros.demo.bag import BagRecorder
from loger_ros.ros.demo.progress import Progress
from loger_ros.ros.interface import NODE, Topic, qos_profile
from loger_ros.ros.synthetic.settings import NODE as CAMERA
from loger_ros.ros.transforms import pose_of

TRUTH = Topic("ground_truth/odometry", "nav_msgs/msg/Odometry", depth=100)
NOT_KNOWN_YET = "_NODE_NAME_UNKNOWN_"  # ROS's name for a node whose topics it knows, but not yet its name
KINDS: dict[Topic, Any] = {
    interface.IMAGE: Image,
    interface.CAMERA_INFO: CameraInfo,
    TRUTH: Odometry,
    interface.ODOMETRY: Odometry,
    interface.PATH: Path,
    interface.POINTS: PointCloud2,
    interface.MAP_POINTS: PointCloud2,
    interface.TF: TFMessage,
    interface.TF_STATIC: TFMessage,
    interface.DIAGNOSTICS: DiagnosticArray,
}


class Observer:
    def __init__(self, progress: Progress, recorder: BagRecorder | None) -> None:
        self.progress = progress
        self.status: dict[str, DiagnosticStatus] = {}  # the newest by name, from the node alone
        self._recorder = recorder
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node(f"{NODE}_demo", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for topic in KINDS:
            self._node.create_subscription(
                KINDS[topic], topic.name, self._hear(topic), qos_profile(topic), raw=True
            )

    def wait(self, condition: Callable[[], object], seconds: float) -> bool:
        """Listen until the condition holds. Return False if it did not within this time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def other_cameras(self) -> int:
        """Return how many others publish images besides the camera that we started."""
        publishers = self._node.get_publishers_info_by_topic(interface.IMAGE.name)
        names = [info.node_name for info in publishers if info.node_name != NOT_KNOWN_YET]
        return len(names) - min(names.count(CAMERA), 1)

    def state(self) -> str:
        """Return the node's state, as it reports it."""
        return self.values(f"{NODE}: node").get("state", "")

    def values(self, name: str) -> dict[str, str]:
        return {value.key: value.value for value in self.status[name].values} if name in self.status else {}

    def call(self, service: str, seconds: float) -> str:
        """Return the answer's text. Raises RuntimeError if there is no answer or it reports a failure."""
        client: Any = self._node.create_client(Trigger, service)
        if not self.wait(client.service_is_ready, seconds):
            raise RuntimeError(f"there is no service {service}")
        future = client.call_async(Trigger.Request())
        if not self.wait(future.done, seconds):
            raise RuntimeError(f"{service} did not answer within {seconds:.0f} s")
        answer: Any = future.result()
        if not answer.success:
            raise RuntimeError(f"{service}: {answer.message}")
        return str(answer.message)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _hear(self, topic: Topic) -> Callable[[bytes], None]:
        noticed = {
            TRUTH: self._true_pose,
            interface.ODOMETRY: self._odometry,
            interface.POINTS: self._chunk,
            interface.DIAGNOSTICS: self._diagnostics,
        }.get(topic)

        def hear(data: bytes) -> None:
            received = time.time_ns()
            if self._recorder is not None:
                self._recorder.write(topic, data, received)
            if noticed is not None:
                noticed(deserialize_message(data, KINDS[topic]), received)

        return hear

    def _true_pose(self, message: Odometry, received: int) -> None:
        self.progress.true_pose(_stamp(message), _pose(message))

    def _odometry(self, message: Odometry, received: int) -> None:
        self.progress.odometry(_stamp(message), _pose(message), received)

    def _chunk(self, message: PointCloud2, received: int) -> None:
        self.progress.chunks += 1

    def _diagnostics(self, message: DiagnosticArray, received: int) -> None:
        self.status |= {s.name: s for s in message.status if s.name.startswith(f"{NODE}:")}


def _stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def _pose(message: Odometry) -> np.ndarray:
    pose = pose_of(message.pose.pose.position, message.pose.pose.orientation)
    return np.full((4, 4), np.nan) if pose is None else pose
