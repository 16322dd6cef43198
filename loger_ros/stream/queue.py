"""Between the camera's thread and the network's: bounded, ordered, and never silent about what it drops."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from loger_ros.config import QueueConfig
from loger_ros.events import EventLog
from loger_ros.stream.continuity import Continuity
from loger_ros.stream.motion import MotionGate
from loger_ros.stream.prepare import check_image
from loger_ros.types import Frame

PACE_SPAN = 60.0  # s over which is counted how many frames are taken per second
PACE_KNOWN = 20.0  # s that this takes at least: a network takes some at once, and then none for a while


class FrameQueue:
    """One or many threads ``put``, one or many ``get``. Gaps and jumps pass: whoever gets judges those."""

    def __init__(
        self,
        config: QueueConfig | None = None,
        events: EventLog | None = None,
        dropped: Counter[str] | None = None,
    ) -> None:
        """dropped: counts, by cause, each frame that is not taken or has to go."""
        self._config = config or QueueConfig()
        self.events = events or EventLog()
        self.dropped = Counter() if dropped is None else dropped
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._admission = threading.Lock()  # gates see one frame at a time, in order of arrival
        self._order = Continuity(max_gap=0)
        self._motion = MotionGate(self._config.min_motion) if self._config.min_motion else None
        self._passed_by: int | None = None  # frames since the one whose turn was the last; None: none had
        self._due: int | None = None  # ns: max_rate lets no earlier frame pass
        self._taken: deque[float] = deque(maxlen=1024)  # monotonic times
        self._closed = False
        self.era = 0  # begins anew with each ``clear``

    def put(self, frame: Frame, era: int | None = None) -> bool:
        """Was the frame taken? Policy keep_all waits for room here, or until it is closed or cleared.

        era: what that was when the frame came, where somebody has worked on it since.
        """
        check_image(frame.image)
        return self.offer(frame.stamp, lambda: frame, era)

    def offer(self, stamp: int, read: Callable[[], Frame], era: int | None = None) -> bool:
        """``put``, of a frame that is only read when its stamp says that its turn has come."""
        era = self.era if era is None else era
        with self._admission:
            cause = self._why_not(stamp, read, era)
            if cause:
                self.dropped[cause] += 1
            return not cause

    def settings_changed(self, config: QueueConfig) -> None:
        """Of ``every_nth`` and ``max_rate``. Without a lock: ``put`` may wait for long in one."""
        self._config, self._due = config, None

    def get(self, timeout: float | None = None) -> Frame | None:
        """The oldest frame; None after ``timeout`` seconds, or once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout)
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._taken.append(time.monotonic())
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """Takes no more frames and wakes all who wait; what is there can still be got."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def full(self) -> bool:
        return len(self._frames) >= self._config.capacity

    def clear(self) -> int:
        """→ how many frames are given up."""
        with self._changed:
            count = len(self._frames)
            self._frames.clear()
            self.era += 1
            self._changed.notify_all()
            return count

    def __len__(self) -> int:
        return len(self._frames)

    def _why_not(self, stamp: int, read: Callable[[], Frame], era: int) -> str:
        """The cause for which the frame is dropped; else it is in the queue now."""
        if self._config.policy == "keep_all":
            self._wait_for_room(era)
        if self._closed:
            return "queue_closed"
        if cause := self._out_of_turn(stamp):
            return cause
        frame = read()  # where that fails the turn is that of the next one
        self._had_its_turn(stamp)
        if self._motion is not None and not self._motion.passes(frame):
            return "min_motion"
        with self._changed:
            if self.era != era:
                text = "a frame on its way into the queue was given up with those in it"
                self.events.add("queue_cleared", frame.stamp, text)
                return "queue_cleared"
            if self._closed:
                return "queue_closed"
            self._store(frame)
        return ""

    def _wait_for_room(self, era: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self.era != era or len(self._frames) < self._config.capacity
            )

    def _out_of_turn(self, stamp: int) -> str:
        """The cause for which a frame of that stamp is dropped, whatever it shows."""
        verdict = self._order.judge(stamp)
        if verdict.drop:
            self.events.add(verdict.event, stamp, verdict.message)
            return verdict.event
        self._order.accept(stamp)
        if verdict.restart:
            self._passed_by = self._due = None
        if self._passed_by is not None and self._passed_by + 1 < self._config.every_nth:
            self._passed_by += 1
            return "every_nth"
        if self._due is not None and stamp < self._due:
            self._passed_by = 0
            return "max_rate"
        return ""

    def _had_its_turn(self, stamp: int) -> None:
        self._passed_by = 0
        if not self._config.max_rate:
            return
        interval = round(1e9 / self._config.max_rate)
        # Counted from when the frame was due: the camera's own rhythm must not lower the rate further.
        on_time = self._due is not None and stamp < self._due + interval
        self._due = (self._due if on_time and self._due is not None else stamp) + interval

    def _store(self, frame: Frame) -> None:
        if len(self._frames) >= self._config.capacity:
            oldest = self._frames.popleft()
            pace = self._pace()
            known = "" if pace is None else f" and took about {pace:.2g} of its images per second of late"
            message = (
                f"{self._config.capacity} frames wait already, the oldest was dropped: the network is "
                f"slower than the camera{known}. Set queue.max_rate{'' if pace is None else ' below that'}, "
                "or with a published network a smaller stream.resolution"
            )
            self.events.add("queue_full", oldest.stamp, message)
            self.dropped["queue_full"] += 1
        self._frames.append(frame)
        self._changed.notify_all()

    def _pace(self) -> float | None:
        """Frames taken per second of late; None: not known yet."""
        now = time.monotonic()
        while self._taken and now - self._taken[0] > PACE_SPAN:
            self._taken.popleft()
        if not self._taken or now - self._taken[0] < PACE_KNOWN:
            return None
        return len(self._taken) / (now - self._taken[0])
