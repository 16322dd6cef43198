"""The trajectory on disk while it grows: a TUM file that is only ever appended to.

A kill loses at most the poses that were not final yet; a power cut, those of the last seconds. A full disk
loses nothing as long as the process lives: what could not be written waits in memory until there is room.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loger_ros.events import EventLog
from loger_ros.mapping.trajectory_files import SEGMENT_LINE, parse_tum, tum_lines
from loger_ros.types import PosedFrame, Trajectory

HEADER = "# loger_ros trajectory: stamp [s] tx ty tz qx qy qz qw in the map\n"
SYNC_EVERY = 5.0  # s: waiting for the disk costs tens of milliseconds
BLOCK = 4096  # bytes that are searched at a time for the last line
MOST_WAITING = 16 << 20  # bytes, about 150,000 poses


class Journal:
    def __init__(self, path: str | Path, events: EventLog | None = None) -> None:
        """An existing journal is continued as a new segment; its torn last line, if any, is cut off."""
        self.path = Path(path)
        self._events = events or EventLog()
        self._segment: int | None = None
        self._failed = False
        self._lost = 0  # poses that found no room in memory either, since the first failure
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._synced = time.monotonic()
        self.cuts = 0  # how often somebody else has changed it
        try:
            self._written = self._end_of_whole_lines()
        except BaseException:
            os.close(self._file)
            raise
        self._waiting = b"" if self._written else HEADER.encode()

    def append(self, frames: Sequence[PosedFrame]) -> None:
        """Add final poses in order. Disk errors become events, here and in later calls, never exceptions."""
        if not frames:
            return
        segment = self._segment
        poses = tum_lines([frame.stamp for frame in frames], np.array([f.T_map_camera for f in frames]))
        lines = []
        for frame, line in zip(frames, poses, strict=True):
            begun = segment is not None or self._written > len(HEADER)
            if frame.segment != segment and begun:
                lines.append(SEGMENT_LINE)
            segment = frame.segment
            lines.append(line)
        text = "".join(lines).encode()
        if len(self._waiting) + len(text) > MOST_WAITING:
            self._write(frames[-1].stamp)  # there may be room again
        if len(self._waiting) + len(text) > MOST_WAITING:
            self._lost += len(frames)
            message = (
                f"{self.path} could not be written for a long time; {len(frames)} poses are not recorded"
            )
            self._events.add("journal_overflow", frames[-1].stamp, message)
            return
        self._segment = segment
        self._waiting += text
        self._write(frames[-1].stamp)

    def mark(self) -> tuple[int, int | None, int]:
        """Return a place to ``rewind`` to."""
        return self._written + len(self._waiting), self._segment, self.cuts

    def rewind(self, mark: tuple[int, int | None, int]) -> None:
        """Remove what was appended since: the stream continues from an earlier state."""
        end, self._segment, cuts = mark
        if end < self._written:
            try:
                self._notice_others(0)
                if self.cuts == cuts and end < self._written:
                    self._written, self._waiting = end, b""
                    os.ftruncate(self._file, end)
            except (OSError, ValueError) as error:
                message = f"{self.path} could not be shortened ({error}): its end may be wrong"
                self._events.add("journal_failed", 0, message)
        if self.cuts != cuts:  # the mark no longer fits the file
            message = (
                f"{self.path} was changed by something else since the mark: poses recorded since then stay"
            )
            self._events.add("journal_not_rewound", 0, message)
            return
        self._waiting = self._waiting[: end - self._written]

    @property
    def waits(self) -> bool:
        """Whether poses wait in memory for room on the disk."""
        return self._failed

    def close(self) -> None:
        if self._file < 0:
            return
        if self._failed:
            self._write(0)
        lost = self._lost + sum(not line.startswith(b"#") for line in self._waiting.splitlines())
        if self._failed and lost:
            self._events.add(
                "journal_lost", 0, f"{lost} poses are missing in {self.path}, which could not be written"
            )
        try:
            if self._regular:
                os.fsync(self._file)
        except OSError as error:
            message = f"the last poses of {self.path} may be lost in a power cut ({error.strerror})"
            self._events.add("journal_failed", 0, message)
        finally:
            os.close(self._file)
            self._file = -1

    def _write(self, stamp: int) -> None:
        try:
            self._notice_others(stamp)
            while self._waiting:
                count = os.pwrite(self._file, self._waiting, self._written)
                self._written += count
                self._waiting = self._waiting[count:]
            if self._regular and time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except (OSError, ValueError) as error:
            self._failed = True
            reason = error.strerror if isinstance(error, OSError) else error
            message = (
                f"{self.path} cannot be written ({reason}); poses wait in memory until it can be. "
                "Free disk space or choose another journal"
            )
            self._events.add("journal_failed", stamp, message)
            return
        if self._failed:
            told = f"{self._lost} poses were lost meanwhile" if self._lost else "no pose was lost"
            self._events.add("journal_recovered", stamp, f"{self.path} can be written again; {told}")
            self._failed, self._lost = False, 0

    def _notice_others(self, stamp: int) -> None:
        """Notice if others have removed the file, or emptied it as some do with logs."""
        found = os.fstat(self._file)
        if not found.st_nlink and self._regular:
            message = (
                f"{self.path} was removed while in use: its poses are lost, and so are later ones "
                "until a new journal is started (clean up and configure the node)"
            )
            self._events.add("journal_removed", stamp, message)
        if self._regular and found.st_size != self._written:
            self._written = self._end_of_whole_lines()
            self._waiting = (b"" if self._written else HEADER.encode()) + self._waiting
            self.cuts += 1
            message = f"{self.path} was cut or written by something else, and continues at its present end"
            self._events.add("journal_cut", stamp, message)

    def _end_of_whole_lines(self) -> int:
        """Return where whole lines end; what follows, torn or zeros that a power cut left, is cut off."""
        end = os.fstat(self._file).st_size
        start = os.pread(self._file, len(HEADER), 0).rstrip(b"\0") if end else b""
        if not HEADER.encode().startswith(start):
            raise ValueError(f"{self.path} exists and is not a journal; choose another name")
        if len(start) < len(HEADER):  # writing ended within the header
            if os.pread(self._file, BLOCK, max(end - BLOCK, len(HEADER))).strip(b"\0"):
                raise ValueError(
                    f"{self.path} has lost its beginning but holds more; move it away or choose another name"
                )
            end = 0
        while end > 0:
            first = max(end - BLOCK, 0)
            newline = os.pread(self._file, end - first, first).rfind(b"\n")
            end = first + newline + 1
            if newline >= 0:
                break
        if self._regular:
            os.ftruncate(self._file, end)
        return end


def read_journal(path: str | Path) -> Trajectory:
    """Read a journal, even one of a process that was killed while writing: a torn last line is left out."""
    text = Path(path).read_text(errors="replace")
    return parse_tum(text[: text.rfind("\n") + 1], path)
