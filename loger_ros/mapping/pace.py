"""Which frames go into the map: neighbours in a film see nearly the same points."""

from __future__ import annotations

from loger_ros.types import Update

# Of the interval. Cameras are not exact, and 0.1 s is to leave nothing out at 10 images per second.
EARLY = 0.2


class Pace:
    def __init__(self, interval: float) -> None:
        """At most one frame per ``interval`` seconds of the stream; 0: every frame."""
        self._interval = round((1 - EARLY) * interval * 1e9)
        self._newest: int | None = None  # ns, of the frames that were due

    def due(self, update: Update) -> list[Update]:
        """The frames whose time has come, each on its own; also where stamps begin anew."""
        chosen = []
        for i, frame in enumerate(update.frames):
            if self._newest is None or not 0 <= frame.stamp - self._newest < self._interval:
                chosen.append(update[i : i + 1].owned())  # which may find no memory
                self._newest = frame.stamp
        return chosen
