"""Counts and times of one camera's stream, written by its threads and read by the diagnostics."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque

import numpy as np

KEPT = 1000  # newest values of each kind
SPAN = 5.0  # s over which rates are counted


class Statistics:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()  # frames that were not used, by cause
        self._values: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._arrivals: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self.last: dict[str, float] = {}  # monotonic time at which something happened last

    def happened(self, what: str) -> None:
        now = time.monotonic()
        self.counts[what] += 1
        self.last[what] = now
        self._arrivals[what].append(now)

    def lost(self, cause: str, count: int) -> None:
        if count:
            self.dropped[cause] += count

    def took(self, what: str, seconds: float) -> None:
        self._values[what].append(seconds)

    def rate(self, what: str) -> float:
        """Per second, over the last few seconds."""
        now = time.monotonic()
        return sum(now - arrival < SPAN for arrival in list(self._arrivals[what])) / SPAN

    def percentiles(self, what: str) -> tuple[float, float, float] | None:
        """p50, p95, p99 of the newest values."""
        values = list(self._values[what])
        if not values:
            return None
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return float(p50), float(p95), float(p99)
