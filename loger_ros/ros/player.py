"""Plays a recording to the node over DDS: images are sent when the node has finished earlier ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from loger_ros.geometry import inverse
from loger_ros.ros import interface
from loger_ros.ros.interface import EMPTY_MAP, FRAMES, NODE, qos_profile
from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.ros.motion_messages import transform_message
from loger_ros.types import CAMERA_FRAME, Camera, Frame

UNDERWAY = 4  # images that may be on their way at once; fewer than any queue on it holds
LEVEL_FRAME = "level"  # from the camera's mounting
SETTLE = 0.5  # s until both sides of a topic know each other
LOOK_AROUND = 4.0  # s to find others on this machine; an announcement that was missed is repeated after 3 s
GLANCE = 0.05  # s
CLOCK = "/clock"
PLAYER = "loger_player"  # our node

Alive = Callable[[], str]  # why the node is no longer there; empty while it is


class PlayerError(RuntimeError):
    """The node does not process what it is sent."""


class Player:
    """The camera sits on the base without an offset, so what the node says about one is true of both."""

    def __init__(self, camera: Camera | None) -> None:
        self._camera = camera
        self._alive: Alive = lambda: ""
        self._node = rclpy.create_node(PLAYER)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._underway: deque[int] = deque()  # stamps

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()

    def refuse_company(self) -> None:
        """Refuse others: a robot's node and a replay would get each other's images, clock and transforms."""
        self._rest(LOOK_AROUND)
        topics = (interface.IMAGE.name, interface.TAKEN.name, CLOCK)
        found = [f"a publisher of {topic}" for topic in topics if self._node.count_publishers(topic)]
        names = self._node.get_node_names()
        if NODE in names:
            found.insert(0, f"a node called {NODE}")
        if names.count(PLAYER) > 1:
            found.insert(0, "another replay")
        if found:
            raise PlayerError(
                f"there is {' and '.join(found)} on this machine, perhaps of a robot or another replay: "
                "stop it, or choose another domain (ROS_DOMAIN_ID=42 loger replay ...)"
            )

    def wait_for_node(self, patience: float, alive: Alive) -> None:
        """Send the camera's mounting, and wait until the node receives images and the clock."""
        self._alive = alive
        reliable = QoSProfile(depth=2 * UNDERWAY)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._clock = self._node.create_publisher(Clock, CLOCK, reliable)
        self._images = self._node.create_publisher(Image, interface.IMAGE.name, reliable)
        self._infos = self._node.create_publisher(CameraInfo, interface.CAMERA_INFO.name, reliable)
        self._mounts = self._node.create_publisher(TFMessage, "/tf_static", latched)
        taken = interface.TAKEN
        self._node.create_subscription(Time, taken.name, self._hear_taken, qos_profile(taken))
        mounted = [transform_message(0, FRAMES[2], CAMERA_FRAME, np.eye(4))]
        if self._camera is not None and self._camera.T_base_camera is not None:
            level = inverse(self._camera.T_base_camera)
            mounted.append(transform_message(0, FRAMES[2], LEVEL_FRAME, level))
        self._mounts.publish(TFMessage(transforms=mounted))
        self._wait(self._connected, patience, "the node did not start to listen")
        self._rest(SETTLE)

    def play(
        self, frames: Iterable[Frame], patience: float, rate: float = 0.0, sent: Callable[[int], None] = print
    ) -> int:
        """Send all frames in order and return their number.

        rate: times the recording's own speed; 0: as fast as possible. patience: seconds within which the node
        must finish at least one image.
        """
        count, first, begun = 0, 0, time.monotonic()
        for frame in frames:
            first = first or frame.stamp
            if rate > 0:
                due = begun + (frame.stamp - first) * 1e-9 / rate
                while time.monotonic() < due:
                    self._spin(due - time.monotonic())
            if count == 0:  # camera_info must arrive before the images; the first goes alone to make sure
                self._send_info(frame.stamp)
                self._rest(SETTLE)
            self._send(frame)
            count += 1
            sent(count)
            self._drain(UNDERWAY if count > 1 else 1, patience)
        self._drain(1, patience)
        return count

    def save_map(self, patience: float) -> None:
        """Have the node save its map, unless the map is empty."""
        answer = self._call(Trigger, "save_map", Trigger.Request(), patience)
        if not answer.success and not answer.message.startswith(EMPTY_MAP):
            raise PlayerError(f"the node did not save its map: {answer.message}")

    def end_stream(self, patience: float) -> None:
        """Have the node process the short last chunk and write its poses."""
        for label in ("deactivate", "cleanup"):
            request = ChangeState.Request()
            request.transition.label = label
            if not self._call(ChangeState, "change_state", request, patience).success:
                raise PlayerError(f"the node refused to {label}")

    def _call(self, kind: type, name: str, request: Any, patience: float) -> Any:
        client: Any = self._node.create_client(kind, f"/{NODE}/{name}")
        self._wait(client.service_is_ready, patience, f"the node did not offer {name}")
        future = client.call_async(request)
        self._wait(future.done, patience, f"the node did not answer {name}")
        return future.result()

    def _connected(self) -> bool:
        return (
            self._images.get_subscription_count() > 0
            and self._clock.get_subscription_count() > 0
            and self._node.count_publishers(interface.TAKEN.name) > 0
        )

    def _send(self, frame: Frame) -> None:
        head = header(frame.stamp, CAMERA_FRAME)
        self._clock.publish(Clock(clock=head.stamp))
        self._send_info(frame.stamp)
        self._images.publish(image_message(head, frame.image, "rgb8"))
        self._underway.append(frame.stamp)

    def _send_info(self, stamp: int) -> None:
        if self._camera is not None:
            self._infos.publish(camera_info_message(header(stamp, CAMERA_FRAME), self._camera))

    def _drain(self, most: int, patience: float) -> None:
        """Wait until fewer than ``most`` images are underway."""
        what = "the node took no more images"
        while len(self._underway) >= most:
            before = len(self._underway)
            self._wait(lambda before=before: len(self._underway) < before, patience, what)  # type: ignore[misc]

    def _hear_taken(self, stamp: Time) -> None:
        nanoseconds = stamp.sec * 1_000_000_000 + stamp.nanosec
        while self._underway and self._underway[0] <= nanoseconds:
            self._underway.popleft()

    def _wait(self, condition: Callable[[], bool], patience: float, what: str) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            gone = self._alive()
            if gone:
                raise PlayerError(gone)
            if time.monotonic() > deadline:
                raise PlayerError(f"{what} within {patience:.0f} s")
            self._spin(GLANCE)

    def _rest(self, seconds: float) -> None:
        """Listen for that long, not counting time for which the whole process was paused."""
        listened = 0.0
        while listened < seconds:
            before = time.monotonic()
            self._spin(GLANCE)
            listened += min(time.monotonic() - before, 2 * GLANCE)

    def _spin(self, seconds: float) -> None:
        self._executor.spin_once(timeout_sec=max(min(seconds, GLANCE), 0.0))
