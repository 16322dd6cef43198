"""Waits for the messages of a few subscriptions, in a thread of its own, at a fraction of an executor's cost.

For each message rclpy's executor builds two wait sets and a task, which cost 0.3 of 1.0 ms per image.
Here one wait set lives as long as its subscriptions do. Of rclpy it uses only what its executor and
``wait_for_message`` use, which is the same from Humble to Kilted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

from loger_ros.ros.background import Background

GLANCE = 500_000_000  # ns between checks whether ROS has ended
PAUSE = 0.5  # s before the next attempt if waiting itself fails


class Receiver:
    """Calls back in its own thread. The subscriptions still belong to their owner."""

    def __init__(self, context: Context, name: str, failed: Callable[[Exception], None]) -> None:
        """failed: called with the error that one message caused; later ones are still received."""
        self._context = context
        self._failed = failed
        self._subscriptions: list[tuple[Subscription, Callable[[Any], None]]] = []
        self._wake = GuardCondition(None, None, context)
        self._closing = False
        self._thread = Background(self._run, name)

    def listen(self, subscription: Subscription, callback: Callable[[Any], None]) -> None:
        """Receive from it too. Only before ``start`` or in a callback."""
        self._subscriptions = [*self._subscriptions, (subscription, callback)]

    def forget(self, subscription: Subscription) -> None:
        """Stop receiving from it. Only in a callback."""
        self._subscriptions = [known for known in self._subscriptions if known[0] is not subscription]

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float) -> None:
        """End the thread. To be called again if a signal has interrupted it."""
        if not self._closing:
            self._closing = True
            self._wake.trigger()
        if not self._thread.goes_on(timeout):
            self._wake.destroy()

    def _run(self) -> None:
        while self._goes_on():
            try:
                self._serve(self._subscriptions)
            except Exception as error:  # also rclpy's own, if a signal has ended ROS
                if self._goes_on():
                    self._failed(error)
                    time.sleep(PAUSE)

    def _goes_on(self) -> bool:
        return not self._closing and self._context.ok()

    def _serve(self, listened: list[tuple[Subscription, Callable[[Any], None]]]) -> None:
        """Receive until the subscriptions change."""
        events = [handler for subscription, _ in listened for handler in subscription.event_handlers]
        ros = self._context.handle
        if ros is None:  # it has just ended
            return
        with ros:
            waiting = rclpy_implementation.WaitSet(len(listened), 1, 0, 0, 0, len(events), ros)
        while self._goes_on() and listened is self._subscriptions:
            waiting.clear_entities()
            for subscription, _ in listened:
                waiting.add_subscription(subscription.handle)
            waiting.add_guard_condition(self._wake.handle)
            for event in events:
                event.add_to_wait_set(waiting)
            waiting.wait(GLANCE)
            for event in events:
                self._tell(event, waiting)
            ready = waiting.get_ready_entities("subscription")
            for subscription, callback in listened:
                if subscription.handle.pointer in ready:
                    self._hand_over(subscription, callback)

    def _tell(self, event: Any, waiting: Any) -> None:
        try:
            if event.is_ready(waiting) and (data := event.take_data()) is not None:
                event.callback(data)
        except Exception as error:
            self._failed(error)

    def _hand_over(self, subscription: Subscription, callback: Callable[[Any], None]) -> None:
        try:
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is not None and not self._closing:
                callback(taken[0])
        except Exception as error:
            self._failed(error)
