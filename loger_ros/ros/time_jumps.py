"""A simulated clock: what belongs to the time before it jumped back, and whether it runs at all."""

from __future__ import annotations

import time

from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration

STANDS = 5.0  # s for which the clock may stand still before it is reported
LOOKS_AWAY = 3.0  # s between two checks; after more, perhaps nobody has listened to the clock
SLACK = 1_000_000_000  # ns: stamps and clocks never agree exactly


class TimeJumps:
    """For the stamps of one stream, which are asked about in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: int | None = None  # ns: the clock before it jumped back, until the stamps jump, too
        self._newest = 0  # ns, of the stamps
        back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-SLACK), on_clock_change=False
        )
        self._handle = clock.create_jump_callback(back, post_callback=self._jumped)

    def close(self) -> None:
        self._handle.unregister()

    def before(self, stamp: int) -> bool:
        """Whether the stamp is of the time that the clock has left, which TF listeners have forgotten."""
        if stamp < self._newest - SLACK:
            self._left = None
        self._newest = stamp
        return self._is_left(stamp)

    def left_behind(self, stamp: int) -> bool:
        """The same for a stamp that may be older than the newest; images may have started over since."""
        return stamp > self._newest + SLACK or self._is_left(stamp)

    def _is_left(self, stamp: int) -> bool:
        if self._left is None:
            return False
        return self._clock.now().nanoseconds + SLACK < stamp <= self._left + SLACK

    def _jumped(self, jump: TimeJump) -> None:
        now = self._clock.now().nanoseconds
        left = now - jump.delta.nanoseconds
        if left > now and abs(self._newest - left) < abs(self._newest - now):  # else the images jumped first
            self._left = left


class ClockWatch:
    """Checks a clock now and then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = (0, time.monotonic())  # what the clock said when it last moved, and when that was
        self._looked = time.monotonic()

    def trouble(self) -> str:
        """What is wrong with a simulated clock; empty while it runs."""
        said, now = self._clock.now().nanoseconds, time.monotonic()
        if said != self._seen[0] or now - self._looked > LOOKS_AWAY:
            self._seen = (said, now)
        self._looked = now
        if now - self._seen[1] < STANDS:
            return ""
        if not said:
            return "use_sim_time is set, but nobody publishes /clock: play the bag with --clock"
        return f"/clock has stood still for at least {STANDS:.0f} s: is the bag or the simulation paused?"
