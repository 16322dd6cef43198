"""The subscriptions to one camera, and the reason if nothing arrives."""

from __future__ import annotations

from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from loger_ros.events import EventLog
from loger_ros.ros import interface
from loger_ros.ros.camera_info import is_rectified
from loger_ros.ros.config import InputConfig
from loger_ros.ros.intake import Intake
from loger_ros.ros.interface import qos_profile
from loger_ros.ros.raw_images import image_of
from loger_ros.ros.receiver import Receiver
from loger_ros.ros.statistics import Statistics

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
OTHERS = 5  # topics to suggest


class Inputs:
    """Has a node and a thread of its own, so that images never wait for services, timers and diagnostics."""

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
        self._intake = intake
        self._topic = interface.IMAGE if config.image_transport == "raw" else interface.COMPRESSED_IMAGE
        prefix = f"{camera}/" if camera else ""
        self.topic = node.resolve_topic_name(prefix + self._topic.name)  # as remapped
        intake.rectified = is_rectified(self.topic, config.rectified)
        self._reader = silent_node(node, f"{node.get_name()}_{camera or 'camera'}")
        self._receiver = Receiver(node.context, "images", self._receiving_failed)
        self.info_topic = node.resolve_topic_name(prefix + interface.CAMERA_INFO.name)
        self._info: Subscription | None = None
        try:
            self._listen_for_camera_info()
            self._listen_for_images()
        except BaseException:
            self.close()
            raise
        self._receiver.start()

    def close(self) -> None:
        self._receiver.close(5.0)
        self._reader.destroy_node()

    def _listen_for_images(self) -> None:
        told = {"incompatible_qos": self._incompatible, "message_lost": self._lost}
        while True:
            handlers = SubscriptionEventCallbacks(use_default_callbacks=False, **told)
            try:
                if self._topic is interface.IMAGE:
                    self._subscribe(Image, self.topic, self._raw_image, handlers, raw=True)
                else:
                    self._subscribe(CompressedImage, self.topic, self._image, handlers)
                return
            except UnsupportedEventTypeError:
                if not told:
                    raise
                name, _ = told.popitem()
                text = f"this middleware does not report {name}; watch images_per_second instead"
                self._events.add("middleware_is_silent", 0, text)

    def _raw_image(self, received: bytes) -> None:
        try:
            image = image_of(received)
        except Exception as error:  # rclpy's middleware raises errors of various types
            self._statistics.happened("image")
            self._statistics.dropped["not_readable"] += 1
            self._events.add("not_readable", 0, f"an image of {len(received)} bytes is damaged: {error}")
            return
        self._image(image)

    def _image(self, message: Any) -> None:
        self._intake.image(message)
        self._listen_for_camera_info()

    def _camera_info(self, message: CameraInfo) -> None:
        self._intake.camera_info(message)
        self._listen_for_camera_info()

    def _listen_for_camera_info(self) -> None:
        """Subscribe while camera_info is wanted, and not longer, because it comes with every image."""
        wanted = self._intake.wants_camera_info
        if wanted and self._info is None:
            self._info = self._subscribe(CameraInfo, self.info_topic, self._camera_info, NO_EVENTS)
        elif self._info is not None and not wanted:
            self._receiver.forget(self._info)
            self._reader.destroy_subscription(self._info)
            self._info = None

    def why_nothing_comes(self) -> str:
        """The most likely cause, and what to do."""
        senders = self._reader.get_publishers_info_by_topic(self.topic)
        if not senders:
            transport, other = self._other_transport()
            if self._reader.count_publishers(other):
                return f"{other} is published, but not {self.topic}: set input.image_transport to {transport}"
            others = self._others()
            hint = f"; topics of that type: {', '.join(others)}" if others else "; no camera driver was found"
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
                f"{names} publishes {self.topic} best-effort, which does not match input.reliable true: "
                "set input.reliable to false"
            )
        return (
            f"{names} publishes {self.topic} with a matching QoS, but nothing arrives: the camera sends no "
            "images, or they are above 0.5 MB and its process lacks the Fast DDS profile (see README)"
        )

    def _other_transport(self) -> tuple[str, str]:
        """Return its name and its topic."""
        if self._topic is interface.IMAGE:
            return "compressed", f"{self.topic}/compressed"
        return "raw", self.topic.removesuffix("/compressed")

    def _subscribe(
        self, kind: type, name: str, callback: Any, handlers: Any, raw: bool = False
    ) -> Subscription:
        qos = qos_profile(interface.CAMERA_INFO if kind is CameraInfo else self._topic)
        if self._config.reliable and kind is not CameraInfo:  # which is often published best-effort only
            qos = QoSProfile(depth=self._topic.depth, reliability=ReliabilityPolicy.RELIABLE)
        subscription = self._reader.create_subscription(
            kind, name, callback, qos, event_callbacks=handlers, raw=raw
        )
        self._receiver.listen(subscription, callback)
        return subscription

    def _receiving_failed(self, error: Exception) -> None:
        text = f"a message of {self.topic} or camera_info was lost: {type(error).__name__}: {error}"
        self._events.add("receiving_failed", 0, text)

    def _incompatible(self, event: Any) -> None:
        policy = str(getattr(event, "last_policy_kind", "unknown")).rsplit(".", 1)[-1]
        message = (
            f"a publisher of {self._topic.name} offers a QoS that does not match ({policy}), so nothing is "
            "received from it: set input.reliable to false, or make it publish reliably"
        )
        self._events.add("incompatible_qos", 0, message)

    def _lost(self, event: Any) -> None:
        self._statistics.dropped["lost_on_the_way"] += event.total_count_change
        text = (
            f"images of {self.topic} are lost between the camera's process and this one: give the camera's "
            "process the Fast DDS profile too (see README), set input.reliable to true if it publishes "
            "reliably, or lower its rate or resolution"
        )
        self._events.add("lost_on_the_way", 0, text)

    def _others(self) -> list[str]:
        """Image topics that other nodes publish."""
        found = []
        for name, types in self._reader.get_topic_names_and_types():
            if self._topic.type in types and name != self.topic:
                # Not asked of our own node, which would look for what `name` is remapped to.
                senders = {info.node_name for info in self._reader.get_publishers_info_by_topic(name)}
                found += [name] if senders - {self._node.get_name()} else []
        return found[:OTHERS]


def silent_node(beside: Node, name: str) -> Node:
    """Make a node for subscriptions that no executor serves."""
    return rclpy.create_node(
        name,
        namespace=beside.get_namespace(),
        context=beside.context,
        use_global_arguments=False,  # its own name would be remapped too
        start_parameter_services=False,
        # no executor would answer this service; Humble does not have it
        parameter_overrides=[Parameter("start_type_description_service", value=False)],
        enable_rosout=False,
    )
