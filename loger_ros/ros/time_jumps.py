"""A simulated clock: what belongs to the time before it jumped back, and whether it goes at all."""

from __future__ import annotations

import time

from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration

STANDS = 5.0  # s without a move of the clock that are worth a word
LOOKS_AWAY = 3.0  # s between two looks: nobody may have listened to the clock meanwhile
SLACK = 1_000_000_000  # ns: stamps and clocks are never quite alike


class TimeJumps:
    """For the stamps of one stream, which are asked about in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: int | None = None  # ns: what the clock said before it jumped, until stamps jump, too
        self._newest = 0  # ns, of the stamps
        back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-SLACK), on_clock_change=False
        )
        self._handle = clock.create_jump_callback(back, post_callback=self._jumped)

    def close(self) -> None:
        self._handle.unregister()

    def before(self, stamp: int) -> bool:
        """Whether the stamp is of the time that the clock has left; who listens has forgotten that time."""
        if stamp < self._newest - SLACK:
            self._left = None
        self._newest = stamp
        return self._is_left(stamp)

    def left_behind(self, stamp: int) -> bool:
        """The same of the stamp of something older than the newest; images may have begun anew since."""
        return stamp > self._newest + SLACK or self._is_left(stamp)

    def _is_left(self, stamp: int) -> bool:
        if self._left is None:
            return False
        return self._clock.now().nanoseconds + SLACK < stamp <= self._left + SLACK

    def _jumped(self, jump: TimeJump) -> None:
        now = self._clock.now().nanoseconds
        left = now - jump.delta.nanoseconds
        if left > now and abs(self._newest - left) < abs(self._newest - now):  # else images were faster
            self._left = left


class ClockWatch:
    """Looks at a clock now and then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = (0, time.monotonic())  # what it said when it moved last, and when that was
        self._looked = time.monotonic()

    def trouble(self) -> str:
        """Of a simulated one; empty while it goes."""
        said, now = self._clock.now().nanoseconds, time.monotonic()
        if said != self._seen[0] or now - self._looked > LOOKS_AWAY:
            self._seen = (said, now)
        self._looked = now
        if now - self._seen[1] < STANDS:
            return ""
        if not said:
            return "use_sim_time is set and nobody publishes /clock: start the bag with --clock"
        return f"/clock has stood still for {STANDS:.0f} s and more: is the bag paused, or the simulation?"
