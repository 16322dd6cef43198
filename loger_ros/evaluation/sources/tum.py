"""TUM RGB-D: rgb.txt and depth.txt list stamped files, groundtruth.txt the poses of the colour camera."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from loger_ros.evaluation.sources.base import (
    Choice,
    ImageFiles,
    SourceError,
    image_size,
    pinhole,
    quiet_log,
    read_rows,
)
from loger_ros.mapping.trajectory_files import read_tum, stamp_of
from loger_ros.types import Camera

DEPTH_SCALE = 5000.0  # steps per metre
DEPTH_TOLERANCE = 20_000_000  # ns between an image and its depth
# Published calibration of the colour cameras, by the number in the name of the sequence; fr3 is undistorted.
PUBLISHED = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), ()),
}


class TumRgbd(ImageFiles):
    kind = "TUM RGB-D"

    @staticmethod
    def matches(path: Path) -> bool:
        return (path / "rgb.txt").is_file()

    def __init__(self, path: Path, choice: Choice) -> None:
        problems = quiet_log()
        stamps, files = _listed(path / "rgb.txt")
        depth: dict[int, Path] = {}
        if (path / "depth.txt").is_file():
            depth = _nearest(stamps, *_listed(path / "depth.txt"))
        truth = None
        if (path / "groundtruth.txt").is_file():
            try:
                truth = read_tum(path / "groundtruth.txt", problems)
            except ValueError as error:
                problems.add("unreadable_truth", 0, str(error))
        super().__init__(
            path,
            files,
            stamps,
            camera=_camera(path, files),
            truth=truth,
            depth_files=depth,
            depth_scale=DEPTH_SCALE,
            problems=problems,
        )


def _listed(file: Path) -> tuple[list[int], list[Path]]:
    rows = read_rows(file, 2)
    try:
        return [stamp_of(row[0]) for row in rows], [file.parent / row[1] for row in rows]
    except ValueError as error:
        raise SourceError(f"{file}: {error}") from error


def _nearest(stamps: list[int], depth_stamps: list[int], files: list[Path]) -> dict[int, Path]:
    """Return the depth file nearest to each image, if one is near enough."""
    order = sorted(range(len(files)), key=depth_stamps.__getitem__)
    sorted_stamps = [depth_stamps[i] for i in order]
    found = {}
    for stamp in stamps:
        place = bisect_left(sorted_stamps, stamp)
        around = range(max(place - 1, 0), min(place + 1, len(order)))
        best = min(around, key=lambda i: abs(sorted_stamps[i] - stamp), default=None)
        if best is not None and abs(sorted_stamps[best] - stamp) <= DEPTH_TOLERANCE:
            found[stamp] = files[order[best]]
    return found


def _camera(path: Path, files: list[Path]) -> Camera | None:
    """Return the camera of camera.txt (fx fy cx cy and distortion) if there is one, else as published."""
    first = next((file for file in files if file.is_file()), None)
    if first is None:
        return None
    try:
        size = image_size(first)
    except SourceError:
        return None  # reported when the image is read
    if (path / "camera.txt").is_file():
        rows = read_rows(path / "camera.txt", 4)
        try:
            numbers = [float(word) for word in rows[0]]
        except (IndexError, ValueError) as error:
            raise SourceError(f"{path / 'camera.txt'} has no line with the numbers fx fy cx cy") from error
        return pinhole(*size, numbers[:4], numbers[4:9] if any(numbers[4:9]) else ())
    for name, (numbers_, distortion) in PUBLISHED.items():
        if name in path.name and size == (640, 480):
            return pinhole(*size, numbers_, distortion)
    return None
