"""The live table: how far the drive is, and how far from the truth. Imports no ROS."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections import deque

import numpy as np

from loger_ros.geometry import inverse

HEAD = "   time   images   frames   chunks      age       way   drift, not aligned"
ROW_EVERY = 5.0  # s: a row stays; between two the last one is renewed
KEPT = 30  # newest ages
BAR = 24  # characters


class Progress:
    """What was heard so far, by stamp in nanoseconds."""

    def __init__(self) -> None:
        self.truth: dict[int, np.ndarray] = {}  # T_world_base
        self.estimate: dict[int, np.ndarray] = {}  # T_odom_base
        self.chunks = 0
        self.heard = time.monotonic()  # when odometry came last
        self._ages: deque[float] = deque(maxlen=KEPT)
        self._first: tuple[np.ndarray, np.ndarray] | None = None
        self._way = 0.0
        self._before: np.ndarray | None = None

    def true_pose(self, stamp: int, pose: np.ndarray) -> None:
        self.truth[stamp] = pose
        if self._before is not None:
            self._way += float(np.linalg.norm(pose[:3, 3] - self._before[:3, 3]))
        self._before = pose

    def odometry(self, stamp: int, pose: np.ndarray, received: int) -> None:
        self.estimate[stamp] = pose
        self.heard = time.monotonic()
        self._ages.append((received - stamp) * 1e-9)

    @property
    def age(self) -> float:
        """Seconds from an image's stamp to its odometry, median of the newest."""
        return statistics.median(self._ages) if self._ages else float("nan")

    def drift(self) -> float:
        """Metres between where the robot is and where it says it is, both seen from where they began."""
        both = self.truth.keys() & self.estimate.keys()
        if not both:
            return float("nan")
        if self._first is None:
            first = min(both)
            self._first = self.truth[first], self.estimate[first]
        newest = max(both)
        true, made = (
            inverse(start) @ poses[newest]
            for start, poses in zip(self._first, (self.truth, self.estimate), strict=True)
        )
        return float(np.linalg.norm(true[:3, 3] - made[:3, 3]))

    def row(self, seconds: float) -> str:
        row = f"{seconds:5.0f} s {len(self.truth):8} {len(self.estimate):8} {self.chunks:8}"
        if not self.estimate:
            return f"{row}        -  {self._way:6.1f} m   -"
        drift = self.drift()
        share = f" ({100 * drift / self._way:.1f} %)" if self._way > 1 else ""
        return f"{row} {self.age:6.2f} s  {self._way:6.1f} m   {drift:.2f} m{share}"


class Table:
    """Rows below each other; on a terminal the newest one lives."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._live = sys.stdout.isatty()
        self._started = time.monotonic()
        self._kept = 0  # rows
        print(HEAD, flush=True)

    def show(self, progress: Progress, last: bool = False) -> None:
        seconds = time.monotonic() - self._started
        row = progress.row(seconds)
        due = last or seconds >= (self._kept + 1) * ROW_EVERY
        if due:
            self._kept = int(seconds / ROW_EVERY)
        if self._live:
            done = round(BAR * min(1.0, len(progress.truth) / self._images))
            bar = "" if due else f"   [{'#' * done}{'.' * (BAR - done)}]"
            width = shutil.get_terminal_size().columns - 1  # a longer line would leave its beginning behind
            print(
                f"\r\x1b[2K{row[:width]}{bar[: max(0, width - len(row))]}",
                end="\n" if due else "",
                flush=True,
            )
        elif due:
            print(row, flush=True)
