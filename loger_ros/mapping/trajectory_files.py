"""Trajectories as text: TUM (stamped) and KITTI (unstamped) files.

Stamps are written digit by digit from integer nanoseconds; no float ever holds one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loger_ros.events import EventLog
from loger_ros.files import appearing_whole
from loger_ros.geometry import nearest_rotation, quaternion, rotation_of, transform
from loger_ros.types import Trajectory

SEGMENT_LINE = "# segment: the motion between the poses above and below is unknown\n"
MOST_BYTES = 2 << 30  # of a file to read


def tum_lines(stamps: Sequence[int], T_map_camera: np.ndarray) -> list[str]:
    """``seconds.nanoseconds tx ty tz qx qy qz qw`` for each pose of (n, 4, 4)."""
    rows = np.concatenate([T_map_camera[:, :3, 3], quaternion(T_map_camera[:, :3, :3])], axis=1).tolist()
    return [
        f"{stamp_text(stamp)} {' '.join([f'{number:.9f}' for number in row])}\n"
        for stamp, row in zip(stamps, rows, strict=True)
    ]


def stamp_text(stamp: int) -> str:
    seconds, nanoseconds = divmod(abs(stamp), 1_000_000_000)
    return f"{'-' if stamp < 0 else ''}{seconds}.{nanoseconds:09d}"


def stamp_of(text: str) -> int:
    """Return the nanoseconds of ``seconds[.fraction]``; digits beyond the ninth are cut off."""
    if "e" in text.lower():  # as numpy.savetxt writes it; it never held more than a float
        nanoseconds = float(text) * 1e9
        _check_range(nanoseconds, text)
        return round(nanoseconds)
    seconds, _, fraction = text[text[:1] in ("+", "-") :].partition(".")
    if not (seconds + fraction).isdecimal():
        raise ValueError(f"{text!r} is not a stamp")
    stamp = int(seconds or "0") * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    stamp = -stamp if text.startswith("-") else stamp
    _check_range(stamp, text)
    return stamp


def _check_range(nanoseconds: float, text: str) -> None:
    if not -(2**63) <= nanoseconds < 2**63:
        raise ValueError(
            f"{text} is not a stamp in seconds. Are these nanoseconds? "
            "Divide nanoseconds by 1e9, milliseconds by 1e3"
        )


def write_tum(path: str | Path, trajectory: Trajectory) -> None:
    lines = tum_lines(trajectory.stamps, trajectory.T_map_camera)
    for i in reversed(range(1, len(lines))):
        if trajectory.segments[i] != trajectory.segments[i - 1]:
            lines.insert(i, SEGMENT_LINE)
    _write(path, "".join(lines))


def read_tum(path: str | Path, events: EventLog | None = None) -> Trajectory:
    return parse_tum(_read(path), path, events)


def parse_tum(text: str, name: str | Path, events: EventLog | None = None) -> Trajectory:
    """Parse a TUM file. A last line that was torn while it was written is left out, and this is reported."""
    stamps: list[int] = []
    rows: list[list[float]] = []
    segments: list[int] = []
    segment = 0
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#") or not line.strip():
            segment += bool(rows) and line.strip() == SEGMENT_LINE.strip()
            continue
        words = line.replace(",", " ").split()
        cause = ""
        try:
            stamp, row = stamp_of(words[0] if words else ""), [float(word) for word in words[1:]]
        except ValueError as error:
            row, cause = [], f" ({error})"
        if len(row) != 7 or not np.isfinite(row).all() or not any(row[3:]):
            if rows and number == len(lines) and not text.endswith(("\n", "\r")):
                if events is not None:
                    message = f"{name} ends within line {number}, which is left out: was writing interrupted?"
                    events.add("torn_line", 0, message)
                break
            raise ValueError(
                f"{name}, line {number} is not a pose `stamp tx ty tz qx qy qz qw`: {line[:80]!r}{cause}"
            )
        stamps.append(stamp)
        rows.append(row)
        segments.append(segment)
    table = np.array(rows).reshape(-1, 7)
    poses = transform(rotation_of(table[:, 3:]), table[:, :3])
    return Trajectory(tuple(stamps), poses, tuple(segments))


def write_kitti(path: str | Path, trajectory: Trajectory) -> None:
    """One line of twelve numbers per pose: the upper 3x4 of the matrix, row by row. Stamps are not kept."""
    rows = trajectory.T_map_camera[:, :3].reshape(-1, 12)
    _write(path, "".join(" ".join(f"{number:.12g}" for number in row) + "\n" for row in rows))


def read_kitti(path: str | Path) -> np.ndarray:
    """Return poses (N, 4, 4). Empty lines and comments are skipped."""
    rows = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != 12 or not np.isfinite(row).all():
            raise ValueError(f"{path}, line {number} is not a pose of 12 numbers: {line[:80]!r}")
        rows.append(row)
    table = np.array(rows).reshape(-1, 3, 4)
    return transform(nearest_rotation(table[:, :, :3]), table[:, :, 3])


def _read(path: str | Path) -> str:
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than the {MOST_BYTES} that can be read")
    return Path(path).read_text(encoding="utf-8-sig", errors="replace")  # some editors add a byte order mark


def _write(path: str | Path, text: str) -> None:
    """Write whole or not at all: a full disk leaves an older file of that name as it was."""
    with appearing_whole(Path(path)) as file:
        file.write(text.encode())
