"""What one camera sends: its subscriptions, and why nothing comes where nothing comes."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from loger_ros.events import EventLog
from loger_ros.ros import interface
from loger_ros.ros.config import InputConfig
from loger_ros.ros.intake import Intake
from loger_ros.ros.interface import qos_profile
from loger_ros.ros.statistics import Statistics

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

OTHERS = 5  # topics to suggest


class Inputs:
    def __init__(
        self,
        node: Node,
        camera: str,
        config: InputConfig,
        intake: Intake,
        events: EventLog,
        statistics: Statistics,
    ) -> None:
        self._node, self._config, self._events, self._statistics = node, config, events, statistics
        raw = config.image_transport == "raw"
        self._topic = interface.IMAGE if raw else interface.COMPRESSED_IMAGE
        prefix = f"{camera}/" if camera else ""
        self._subscriptions: list[Subscription] = []
        self._subscribe(Image if raw else CompressedImage, prefix + self._topic.name, intake.image)
        self._subscribe(CameraInfo, prefix + interface.CAMERA_INFO.name, intake.camera_info)
        self.topic = self._subscriptions[0].topic_name  # as remapped

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def why_nothing_comes(self) -> str:
        """The likeliest cause, and the cure."""
        senders = self._node.get_publishers_info_by_topic(self.topic)
        if not senders:
            others = self._others()
            hint = f"; topics of that type: {', '.join(others)}" if others else "; no camera driver is heard"
            return f"nobody publishes {self.topic}{hint}. Start the camera, or remap {self._topic.name}"
        wrong = [info for info in senders if info.topic_type != self._topic.type]
        if len(wrong) == len(senders):
            return (
                f"{self.topic} carries {wrong[0].topic_type}, not {self._topic.type}: "
                "remap it, or choose the other input.image_transport"
            )
        names = ", ".join(sorted({f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in senders}))
        best_effort = all(info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for info in senders)
        if self._config.reliable and best_effort:
            return (
                f"{names} publishes {self.topic} best-effort, which cannot match input.reliable true: "
                "set input.reliable to false"
            )
        return (
            f"{names} publishes {self.topic} with a QoS that matches, but nothing arrives: the camera stands "
            "still, or its images are above 0.5 MB and its process lacks the Fast DDS profile (see README)"
        )

    def _subscribe(self, kind: type, name: str, callback: Any) -> None:
        qos = qos_profile(self._topic)
        if self._config.reliable:
            qos = QoSProfile(depth=self._topic.depth, reliability=ReliabilityPolicy.RELIABLE)
        handlers = SubscriptionEventCallbacks(incompatible_qos=self._incompatible, message_lost=self._lost)
        self._subscriptions.append(
            self._node.create_subscription(kind, name, callback, qos, event_callbacks=handlers)
        )

    def _incompatible(self, event: Any) -> None:
        policy = str(getattr(event, "last_policy_kind", "unknown")).rsplit(".", 1)[-1]
        message = (
            f"a publisher of {self._topic.name} offers a QoS that does not match ({policy}), is not heard: "
            "set input.reliable to false, or let it publish reliably"
        )
        self._events.add("incompatible_qos", 0, message)

    def _lost(self, event: Any) -> None:
        self._statistics.dropped["lost_on_the_way"] += event.total_count_change

    def _others(self) -> list[str]:
        """Topics of images that other nodes publish."""
        found = []
        for name, types in self._node.get_topic_names_and_types():
            if self._topic.type in types and name != self.topic:
                senders = {info.node_name for info in self._node.get_publishers_info_by_topic(name)}
                found += [name] if senders - {self._node.get_name()} else []
        return found[:OTHERS]
