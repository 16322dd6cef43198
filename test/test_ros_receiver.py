"""Messages reach their callbacks without an executor, over real DDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.context import Context  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from loger_ros.events import EventLog  # noqa: E402
from loger_ros.ros import inputs  # noqa: E402
from loger_ros.ros.config import InputConfig  # noqa: E402
from loger_ros.ros.receiver import Receiver  # noqa: E402
from loger_ros.ros.statistics import Statistics  # noqa: E402


class Rig:
    """Publishers and subscriptions of topics a and b, and what came of them."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("rig", context=self.context)
        self.heard: list[str] = []
        self.failures: list[Exception] = []
        self._news = threading.Condition()
        self.receiver = Receiver(self.context, "receiver", self._failed)
        self._publishers = {name: self.node.create_publisher(Header, name, 10) for name in "ab"}

    def listen(self, name: str, callback: Callable[[Header], None] | None = None, **options: Any) -> Any:
        subscription = self.node.create_subscription(Header, name, lambda _: None, 10, **options)
        self.receiver.listen(subscription, callback or self.hear)
        return subscription

    def hear(self, message: Header) -> None:
        with self._news:
            self.heard.append(message.frame_id)
            self._news.notify()

    def send(self, topic: str, text: str) -> None:
        self._publishers[topic].publish(Header(frame_id=text))
        assert self._publishers[topic].wait_for_all_acked(Duration(seconds=30))

    def wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, 30), (self.heard, self.failures)

    def _failed(self, error: Exception) -> None:
        with self._news:
            self.failures.append(error)
            self._news.notify()


@pytest.fixture
def rig(ros_domain: int) -> Iterator[Rig]:
    rig = Rig(ros_domain)
    yield rig
    rig.receiver.close(30)
    rig.node.destroy_node()
    rclpy.try_shutdown(context=rig.context)


def thread_of(name: str) -> threading.Thread:
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)
    return thread


def test_what_waits_is_heard_in_the_order_of_the_subscriptions(rig: Rig) -> None:
    """So that camera_info is known before the image that came with it."""
    rig.listen("b")
    rig.listen("a")
    for round_ in "12":
        rig.send("a", f"a{round_}")
        rig.send("b", f"b{round_}")
    rig.receiver.start()
    rig.wait(lambda: len(rig.heard) == 4)
    assert rig.heard == ["b1", "a1", "b2", "a2"]


def test_one_that_is_forgotten_is_silent_and_the_other_goes_on(rig: Rig) -> None:
    def once(message: Header) -> None:
        rig.receiver.forget(first)
        rig.node.destroy_subscription(first)
        rig.hear(message)

    first = rig.listen("a", once)
    rig.listen("b")
    rig.receiver.start()
    rig.send("a", "a1")
    rig.wait(lambda: rig.heard == ["a1"])
    rig.send("a", "a2")
    rig.send("b", "b1")
    rig.wait(lambda: "b1" in rig.heard)
    assert rig.heard == ["a1", "b1"]


def test_a_message_that_fails_is_told_and_the_next_one_has_its_chance(rig: Rig) -> None:
    def picky(message: Header) -> None:
        if message.frame_id == "bad":
            raise ValueError("not this one")
        rig.hear(message)

    rig.listen("a", picky)
    rig.receiver.start()
    rig.send("a", "bad")
    rig.send("a", "good")
    rig.wait(lambda: rig.heard == ["good"])
    assert [str(error) for error in rig.failures] == ["not this one"]


def test_it_ends_when_closed_and_when_ros_ends(rig: Rig) -> None:
    rig.listen("a")
    rig.receiver.start()
    rig.send("a", "a1")
    rig.wait(lambda: rig.heard == ["a1"])
    thread = thread_of("receiver")
    rig.receiver.close(30)
    thread.join(30)
    assert not thread.is_alive()
    other = Receiver(rig.context, "other", rig.failures.append)
    other.start()
    thread = thread_of("other")
    rclpy.try_shutdown(context=rig.context)
    thread.join(30)
    assert not thread.is_alive()
    assert not rig.failures


@pytest.mark.parametrize("known", [0, 1])
def test_a_middleware_that_does_not_tell_what_it_loses_delivers_images(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    class Untold(inputs.SubscriptionEventCallbacks):
        def create_event_handlers(self, *arguments: Any) -> Any:
            if self.message_lost or (self.incompatible_qos and not known):
                raise inputs.UnsupportedEventTypeError("no such event")
            return super().create_event_handlers(*arguments)

    class Listener:
        rectified = wants_camera_info = False

        def image(self, message: Any) -> None:
            rig.hear(message.header)

    monkeypatch.setattr(inputs, "SubscriptionEventCallbacks", Untold)
    events = EventLog(lambda text: None)
    images = inputs.Inputs(rig.node, "", InputConfig(), Listener(), events, Statistics())  # type: ignore[arg-type]
    publisher = rig.node.create_publisher(Image, images.topic, 5)
    try:
        for _ in range(300):  # the first ones may come before the two have found each other
            publisher.publish(Image(header=Header(frame_id="camera"), encoding="mono8"))
            time.sleep(0.1)
            if rig.heard:
                break
    finally:
        images.close()
    assert rig.heard[:1] == ["camera"]
    assert events.counts == {"middleware_is_silent": 2 - known}
