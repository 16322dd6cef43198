"""What happened, by name: counted, kept for a while and said without flooding the log."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable

from loger_ros.types import Event


class EventLog:
    """Says the 1st, 2nd, 4th, 8th... event of each name, so that a fault at camera rate stays readable."""

    def __init__(self, say: Callable[[str], object] | None = None, keep: int = 256) -> None:
        self._say = say or logging.getLogger("loger_ros").warning
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.recent: deque[Event] = deque(maxlen=keep)

    def add(self, name: str, stamp: int, message: str) -> None:
        with self._lock:
            self.counts[name] += 1
            count = self.counts[name]
            self.recent.append(Event(name, stamp, message))
        if count & (count - 1) == 0:
            again = f" ({count} times so far)" if count > 1 else ""
            self._say(f"{name}: {message}{again}")
