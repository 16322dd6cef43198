"""KITTI odometry: sequences/NN with image_2 (or 0, 1, 3), times.txt, calib.txt; poses/NN.txt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loger_ros.evaluation.sources.base import (
    Choice,
    ImageFiles,
    SourceError,
    even_stamps,
    image_size,
    images_in,
    paired_by_number,
    pinhole,
    quiet_log,
    read_rows,
    read_text,
)
from loger_ros.events import EventLog
from loger_ros.geometry import transform
from loger_ros.mapping.trajectory_files import read_kitti, stamp_of
from loger_ros.types import Camera, Trajectory

FOLDERS = ("image_2", "image_3", "image_0", "image_1")  # colour before grey, left before right
FIRST = 1_000_000_000  # ns added to all times: they start at 0, which means "no time" in ROS
NOMINAL_RATE = 10.0  # Hz


class KittiOdometry(ImageFiles):
    kind = "KITTI odometry"

    @staticmethod
    def matches(path: Path) -> bool:
        return (path / "times.txt").is_file() and any((path / folder).is_dir() for folder in FOLDERS)

    def __init__(self, path: Path, choice: Choice) -> None:
        folder = choice.camera or next(name for name in FOLDERS if (path / name).is_dir())
        if folder not in FOLDERS or not (path / folder).is_dir():
            there = ", ".join(name for name in FOLDERS if (path / name).is_dir())
            raise SourceError(f"{path} has no camera {folder!r}: choose from {there}")
        problems = quiet_log()
        files = images_in(path / folder)
        stamps = _stamps(path / "times.txt", len(files), problems)
        camera, T_left_camera = _calibration(path / "calib.txt", folder, files, problems)
        super().__init__(
            path,
            *paired_by_number(files, stamps, problems),
            camera=camera,
            truth=_truth(path, stamps, T_left_camera, problems),
            problems=problems,
        )


def _stamps(file: Path, count: int, problems: EventLog) -> list[int]:
    try:
        return [FIRST + stamp_of(row[0]) for row in read_rows(file, 1)]
    except ValueError as error:
        problems.add("unreadable_times", 0, f"{error}; {NOMINAL_RATE:g} frames per second are assumed")
        return even_stamps(count, NOMINAL_RATE)


def _calibration(
    file: Path, folder: str, files: list[Path], problems: EventLog
) -> tuple[Camera | None, np.ndarray]:
    """Return the camera, and its pose in the left grey camera, which the true poses describe."""
    number = folder[-1]
    try:
        rows = {
            words[0].rstrip(":"): words[1:] for words in map(str.split, read_text(file).splitlines()) if words
        }
        projection = np.array(rows[f"P{number}"], dtype=float).reshape(3, 4)
        matrix = projection[:, :3]
        offset = -np.linalg.solve(matrix, projection[:, 3])
        size = image_size(files[0])
    except (SourceError, KeyError, ValueError, IndexError, np.linalg.LinAlgError) as error:
        problems.add("no_calibration", 0, f"no projection P{number} can be read from {file} ({error})")
        return None, np.eye(4)
    camera = pinhole(*size, (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    return camera, transform(np.eye(3), offset)


def benchmark_poses(path: Path) -> Path:
    """Return where the benchmark keeps the poses: outside the sequence's folder."""
    return path.resolve().parent.parent / "poses" / f"{path.resolve().name}.txt"


def _truth(path: Path, stamps: list[int], T_left_camera: np.ndarray, problems: EventLog) -> Trajectory | None:
    """poses.txt beside the images, or ../../poses/NN.txt as the benchmark has it; one line per image."""
    file = next((place for place in (path / "poses.txt", benchmark_poses(path)) if place.is_file()), None)
    if file is None:
        return None
    try:
        poses = read_kitti(file)
    except ValueError as error:
        problems.add("unreadable_truth", 0, str(error))
        return None
    count = min(len(poses), len(stamps))
    if len(poses) != len(stamps):
        message = f"{file} has {len(poses)} poses for {len(stamps)} stamps: the first {count} are used"
        problems.add("lengths_differ", 0, message)
    return Trajectory(tuple(stamps[:count]), poses[:count] @ T_left_camera, (0,) * count)
