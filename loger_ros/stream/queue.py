"""The queue between the camera's thread and the network's: bounded, ordered, never silent about drops."""

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

PACE_SPAN = 60.0  # s over which the frames taken per second are counted
PACE_KNOWN = 20.0  # s needed at least, since a network takes some frames at once, and then none for a while


class FrameQueue:
    """One or more threads ``put``, one or more ``get``. Gaps and jumps pass: the getter judges those."""

    def __init__(
        self,
        config: QueueConfig | None = None,
        events: EventLog | None = None,
        dropped: Counter[str] | None = None,
    ) -> None:
        """dropped: counts, by cause, each frame that is refused or dropped later."""
        self._config = config or QueueConfig()
        self.events = events or EventLog()
        self.dropped = Counter() if dropped is None else dropped
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._admission = threading.Lock()  # gates see one frame at a time, in order of arrival
        self._order = Continuity(max_gap=0)
        self._motion = MotionGate(self._config.min_motion) if self._config.min_motion else None
        self._passed_by: int | None = None  # frames since the last one that had its turn; None: none had
        self._due: int | None = None  # ns: max_rate lets no earlier frame pass
        self._taken: deque[float] = deque(maxlen=1024)  # monotonic times
        self._closed = False
        self.era = 0  # each ``clear`` starts a new one

    def put(self, frame: Frame, era: int | None = None) -> bool:
        """Add a frame and return whether it was taken.

        With policy keep_all, this waits for room, or until the queue is closed or cleared.
        era: its value when the frame arrived, if somebody has worked on the frame since.
        """
        check_image(frame.image)
        return self.offer(frame.stamp, lambda: frame, era)

    def offer(self, stamp: int, read: Callable[[], Frame], era: int | None = None) -> bool:
        """Like ``put``, but the frame is only read if its stamp says that its turn has come."""
        era = self.era if era is None else era
        with self._admission:
            cause = self._why_not(stamp, read, era)
            if cause:
                self.dropped[cause] += 1
            return not cause

    def settings_changed(self, config: QueueConfig) -> None:
        """Use new ``every_nth`` and ``max_rate``. Takes no lock, since ``put`` may hold one for long."""
        self._config, self._due = config, None

    def get(self, timeout: float | None = None) -> Frame | None:
        """Return the oldest frame; None after ``timeout`` seconds, or once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout)
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._taken.append(time.monotonic())
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """Take no more frames and wake all waiting threads; frames in the queue can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def full(self) -> bool:
        return len(self._frames) >= self._config.capacity

    def clear(self) -> int:
        """Discard all frames and return their number."""
        with self._changed:
            count = len(self._frames)
            self._frames.clear()
            self.era += 1
            self._changed.notify_all()
            return count

    def __len__(self) -> int:
        return len(self._frames)

    def _why_not(self, stamp: int, read: Callable[[], Frame], era: int) -> str:
        """Return why the frame is dropped; if empty, it is in the queue now."""
        if self._config.policy == "keep_all":
            self._wait_for_room(era)
        if self._closed:
            return "queue_closed"
        if cause := self._out_of_turn(stamp):
            return cause
        frame = read()  # if this fails, the next frame has the turn
        self._had_its_turn(stamp)
        if self._motion is not None and not self._motion.passes(frame):
            return "min_motion"
        with self._changed:
            if self.era != era:
                text = "a frame on its way into the queue was discarded with those in it"
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
        """Return why a frame with this stamp is dropped, whatever it shows; empty if it is not."""
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
            known = "" if pace is None else f" and recently took about {pace:.2g} of its images per second"
            message = (
                f"{self._config.capacity} frames were waiting, so the oldest was dropped: the network is "
                f"slower than the camera{known}. Set queue.max_rate{'' if pace is None else ' below that'}, "
                "or, with a published network, a smaller stream.resolution"
            )
            self.events.add("queue_full", oldest.stamp, message)
            self.dropped["queue_full"] += 1
        self._frames.append(frame)
        self._changed.notify_all()

    def _pace(self) -> float | None:
        """Return how many frames per second were recently taken; None: not known yet."""
        now = time.monotonic()
        while self._taken and now - self._taken[0] > PACE_SPAN:
            self._taken.popleft()
        if not self._taken or now - self._taken[0] < PACE_KNOWN:
            return None
        return len(self._taken) / (now - self._taken[0])
