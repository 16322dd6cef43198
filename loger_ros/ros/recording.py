"""What the node leaves on disk: the journal of the trajectory, and files that services save. No ROS here."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from loger_ros.events import EventLog
from loger_ros.files import appearing_whole, locked
from loger_ros.mapping.journal import HEADER, Journal
from loger_ros.mapping.trajectory_files import SEGMENT_LINE
from loger_ros.ros.odometry import Odometer
from loger_ros.types import PosedFrame


class OutsideFolder(ValueError):
    """A file name that leads out of the folder in which everything is written."""


def inside(folder: Path, name: str, parameter: str) -> Path:
    """Return the path of that file, and make its folder."""
    try:
        root = folder.expanduser().resolve()
        path = (root / name).resolve()
        if path == root or not path.is_relative_to(root):
            text = f"{parameter} is {name!r}, which is not inside {root}: a link there leads out; remove it"
            raise OutsideFolder(text)
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of ~ is unknown
        raise ValueError(f"output.folder {folder} cannot be used ({error}): choose another one") from error
    return path


class Recording:
    """Takes the final poses of a stream and records those of the robot in the map. A PoseRecord."""

    def __init__(self, path: Path, limit: int, odometer: Odometer, events: EventLog) -> None:
        """limit: bytes after which the journal is renamed. ValueError or OSError: the path cannot be used."""
        self._path, self._limit = path, limit
        self._odometer = odometer
        self._events = events
        self._lock = _locked(path)
        try:
            self._journal = Journal(path, events)
        except BaseException:
            os.close(self._lock)
            raise
        self._start = self._journal.mark()[0]
        self._cuts = 0  # of the journal, counted so far
        self._old_start: int | None = None  # where the start is in the renamed file, if it is there
        self._old_goes_on = False  # whether the journal goes on with the last segment of the old one
        self._files_change = threading.Lock()
        self._laps = 0  # added to segment numbers: breaks that the stream does not know of

    def append(self, frames: Sequence[PosedFrame]) -> None:
        if frames and self._journal.mark()[0] > self._limit and not self._journal.waits:
            self._rotate(frames[0].segment + self._laps)
        poses = self._odometer.in_map(frames) if frames else ()
        self._journal.append(
            [
                replace(frame, T_map_camera=pose, segment=frame.segment + self._laps)
                for frame, pose in zip(frames, poses, strict=True)
            ]
        )
        if self._journal.cuts > self._cuts:  # somebody else cut it
            self._cuts, self._start = self._journal.cuts, 0

    def mark(self) -> tuple[Journal, Any]:
        return self._journal, self._journal.mark()

    def rewind(self, mark: tuple[Journal, Any]) -> None:
        journal, place = mark
        if journal is self._journal:
            journal.rewind(place)
        else:
            text = f"{self._path} was renamed after the snapshot, so the poses recorded since then stay"
            self._events.add("journal_not_rewound", 0, text)

    def new_segment(self) -> None:
        """Later poses are not connected with earlier ones."""
        self._laps += 1_000_000  # more than a stream ever counts

    def start_over(self) -> None:
        """From now on ``save`` leaves out what was recorded so far."""
        self.new_segment()
        with self._files_change:
            self._start, self._old_start = self._journal.mark()[0], None

    @property
    def files(self) -> tuple[Path, Path]:
        """Files that nothing else may write."""
        return self._path, self._path.with_name(f"{self._path.name}.old")

    def save(self, path: Path) -> int:
        """Copy the poses since the start or the last reset. Return their number. Any thread may call it.

        If they filled more than two journals, only those in the newest two are there.
        """
        with contextlib.ExitStack() as opened:
            with self._files_change:
                journal, start = opened.enter_context(open(self._path, "rb")), self._start
                old, old_start, goes_on = None, self._old_start, self._old_goes_on
                if old_start is not None and self.files[1].exists():
                    old = opened.enter_context(open(self.files[1], "rb"))
            file = opened.enter_context(appearing_whole(path))
            file.write(HEADER.encode())
            count = 0
            if old is not None and old_start is not None:
                count = _copied(old, old_start, file)
                if not goes_on:
                    file.write(SEGMENT_LINE.encode())
            return count + _copied(journal, start, file)

    def close(self) -> None:
        self._journal.close()
        os.close(self._lock)

    def _rotate(self, segment: int) -> None:
        """Rename the journal and start a new one. segment: that of the next poses."""
        old, last_segment = self.files[1], self._journal.mark()[1]
        with self._files_change:
            try:
                os.replace(self._path, old)
                lock, journal = self._another(old)
            except (OSError, ValueError) as error:
                text = (
                    f"{self._path} has reached output.journal_limit but cannot be renamed ({error}), so it "
                    "keeps growing"
                )
                self._events.add("journal_not_rotated", 0, text)
                return
            self._journal.close()
            os.close(self._lock)
            self._lock, self._journal, self._cuts = lock, journal, 0
            self._start, self._old_start, self._old_goes_on = 0, self._start, segment == last_segment
        message = f"{self._path} has reached output.journal_limit and was renamed to {old}; a new one begins"
        self._events.add("journal_rotated", 0, message)

    def _another(self, old: Path) -> tuple[int, Journal]:
        """A lock and a new journal in place of the one that is ``old`` now, which comes back on failure."""
        try:
            lock = _locked(self._path)
            try:
                return lock, Journal(self._path, self._events)
            except BaseException:
                os.close(lock)
                raise
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.replace(old, self._path)
            raise


def _copied(journal: IO[bytes], start: int, file: IO[bytes]) -> int:
    """Copy the complete lines of a journal from ``start`` to its present end. Return the number of poses."""
    count, segment = 0, SEGMENT_LINE.encode()
    start = max(start, len(HEADER))
    left = os.fstat(journal.fileno()).st_size - start
    journal.seek(start)
    for line in journal:
        left -= len(line)
        if left < 0 or not line.endswith(b"\n"):
            break
        count += line != segment
        file.write(line)
    return count


def _locked(path: Path) -> int:
    try:
        return locked(path)
    except BlockingIOError:
        raise ValueError(
            f"{path} is already being written by another process: give this node another output.folder or "
            "output.journal"
        ) from None
