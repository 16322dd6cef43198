"""What happened, by name: counted, kept for a while, and logged without flooding the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from loger_ros.types import Event

QUIET = 60.0  # s without an event of a name: after that, the next one is news


class EventLog:
    """Logs the 1st, 2nd, 4th, 8th... event of each name, so that faults at camera rate do not flood the log.

    After a quiet minute, it starts with the 1st again.
    """

    def __init__(self, say: Callable[[str], object] | None = None, keep: int = 256) -> None:
        self._say = say or logging.getLogger("loger_ros").warning
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.recent: deque[Event] = deque(maxlen=keep)
        self._in_a_row: dict[str, tuple[int, float]] = {}  # by name: how many, and when the last one came

    def add(self, name: str, stamp: int, message: str) -> None:
        with self._lock:
            self.counts[name] += 1
            count, now = self.counts[name], time.monotonic()
            row, last = self._in_a_row.get(name, (0, now))
            row = row + 1 if now - last < QUIET else 1
            self._in_a_row[name] = row, now
            self.recent.append(Event(name, stamp, message))
        if row & (row - 1) == 0:
            again = f" ({count} times so far)" if count > 1 else ""
            self._say(f"{name}: {message}{again}")
