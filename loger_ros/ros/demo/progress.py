"""The live table: the progress of the drive, and its distance from the truth. Imports no ROS."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections import deque

import numpy as np

from loger_ros.geometry import inverse

HEAD = "   time   images   frames   chunks      age      path   drift, not aligned"
ROW_EVERY = 5.0  # s between rows that stay; in between, the last row is updated
KEPT = 30  # of the newest ages
BAR = 24  # characters


class Progress:
    """What was received so far, by stamp in nanoseconds."""

    def __init__(self) -> None:
        self.truth: dict[int, np.ndarray] = {}  # T_world_base
        self.estimate: dict[int, np.ndarray] = {}  # T_odom_base
        self.chunks = 0
        self.heard = time.monotonic()  # when odometry last came
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
        """Median seconds from an image's stamp to the arrival of its odometry, over the newest ones."""
        return statistics.median(self._ages) if self._ages else float("nan")

    def drift(self) -> float:
        """Metres between where the robot is and where it says it is, each relative to its own start."""
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
    """Rows below each other; on a terminal the newest one is updated in place."""

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
            width = shutil.get_terminal_size().columns - 1  # a wrapped line would not be erased whole
            print(
                f"\r\x1b[2K{row[:width]}{bar[: max(0, width - len(row))]}",
                end="\n" if due else "",
                flush=True,
            )
        elif due:
            print(row, flush=True)
