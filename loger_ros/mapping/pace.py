"""Selects frames for the map, since neighbouring frames see nearly the same points."""

from __future__ import annotations

from loger_ros.types import Update

# Share of the interval. Cameras are not exact, and 0.1 s must leave nothing out at 10 images per second.
EARLY = 0.2


class Pace:
    def __init__(self, interval: float) -> None:
        """At most one frame per ``interval`` seconds of the stream; 0: every frame."""
        self._interval = round((1 - EARLY) * interval * 1e9)
        self._newest: int | None = None  # ns, of the frames that were due

    def due(self, update: Update) -> list[Update]:
        """Return the frames that are due, each on its own; a frame is also due if its stamp jumps back."""
        chosen = []
        for i, frame in enumerate(update.frames):
            if self._newest is None or not 0 <= frame.stamp - self._newest < self._interval:
                chosen.append(update[i : i + 1].owned())  # may run out of memory
                self._newest = frame.stamp
        return chosen
