"""One line on the terminal that shows how far the work is and how long the rest will take."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

EVERY = 0.5  # s


class Line:
    """Shows progress only if the output is a terminal."""

    def __init__(self, what: str, total: int = 0) -> None:
        self._what, self._total = what, total
        self._begun, self._shown = time.monotonic(), 0.0
        self._terminal = sys.stderr.isatty()

    def frames(self, done: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._shown >= EVERY:
            self._shown = now
            said = f": {self.text(done, now - self._begun)}"
            room = max(0, shutil.get_terminal_size().columns - 1 - len(said))  # what wraps would stay
            what = self._what if len(self._what) <= room else "…" + self._what[len(self._what) - room + 1 :]
            print(f"\r{what}{said}\033[K", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)

    def text(self, done: int, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0.0
        if not self._total:
            return f"{done} frames, {rate:.1f}/s"
        left = (self._total - done) / rate if rate > 0 else 0.0
        return f"{done} of {self._total} frames, {rate:.1f}/s, {duration(left)} left"

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {seconds:02d} s"
        if minutes
        else f"{seconds} s"
    )
