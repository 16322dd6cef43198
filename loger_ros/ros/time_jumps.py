"""A clock that jumps back, as where a bag begins again: what belongs to the time before it."""

from __future__ import annotations

from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration

SLACK = 1_000_000_000  # ns: stamps and clocks are never quite alike


class TimeJumps:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: int | None = None  # ns: what the clock said before it jumped
        back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-SLACK), on_clock_change=False
        )
        self._handle = clock.create_jump_callback(back, post_callback=self._jumped)

    def close(self) -> None:
        self._handle.unregister()

    def before(self, stamp: int) -> bool:
        """Whether the stamp is of the time that the clock has left; who listens has forgotten that time."""
        if self._left is None:
            return False
        return self._clock.now().nanoseconds + SLACK < stamp <= self._left + SLACK

    def _jumped(self, jump: TimeJump) -> None:
        if jump.delta.nanoseconds < 0:
            self._left = self._clock.now().nanoseconds - jump.delta.nanoseconds
