"""7-Scenes and ScanNet: numbered images, each with a file of its 4x4 pose and its depth in millimetres."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from loger_ros.evaluation.sources.base import (
    MOST_SETTINGS,
    Choice,
    ImageFiles,
    SourceError,
    image_size,
    images_in,
    pinhole,
    quiet_log,
    read_text,
)
from loger_ros.events import EventLog
from loger_ros.geometry import nearest_rotation, transform
from loger_ros.types import Camera, Trajectory

RATE = 30.0  # Hz, of the recorders; the frames themselves have no stamps
FIRST = 1_000_000_000  # ns
# Of 7-Scenes, pixels. Its page publishes the depth camera's alone; benchmarks take the other one for colour.
SIZE, CENTRE = (640, 480), (320.0, 240.0)
DEPTH_FOCAL, COLOUR_FOCAL = 585.0, 525.0


class PosedFrames(ImageFiles):
    def __init__(
        self,
        path: Path,
        files: list[Path],
        pose_of: Callable[[Path], Path],
        depth_of: Callable[[Path], Path],
        camera: Camera | None,
        depth_unknown: int,
        problems: EventLog,
    ) -> None:
        stamps = [FIRST + round(_number(file) * 1e9 / RATE) for file in files]
        depth = {s: depth_of(f) for s, f in zip(stamps, files, strict=True) if depth_of(f).is_file()}
        super().__init__(
            path,
            files,
            stamps,
            camera=camera,
            truth=_poses([pose_of(file) for file in files], stamps, problems),
            depth_files=depth,
            depth_unknown=depth_unknown,
            problems=problems,
        )


class SevenScenes(PosedFrames):
    kind = "7-Scenes"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and next(path.glob("frame-*.color.png"), None) is not None

    def __init__(self, path: Path, choice: Choice) -> None:
        files = [file for file in images_in(path) if file.name.endswith(".color.png")]
        problems = quiet_log()
        camera = pinhole(*SIZE, (COLOUR_FOCAL, COLOUR_FOCAL, *CENTRE))
        size = _size(files, problems)
        super().__init__(
            path,
            files,
            lambda file: file.with_name(file.name.replace(".color.png", ".pose.txt")),
            lambda file: file.with_name(file.name.replace(".color.png", ".depth.png")),
            camera if size == SIZE else None,
            65535,
            problems,
        )

    def depth(self, stamp: int) -> np.ndarray | None:
        """As the colour camera sees it, which is the wider one; the centimetres between both are left out."""
        metres = super().depth(stamp)
        if metres is None or metres.shape != SIZE[::-1]:
            return metres
        share = DEPTH_FOCAL / COLOUR_FOCAL
        place = np.array([[share, 0, (1 - share) * CENTRE[0]], [0, share, (1 - share) * CENTRE[1]]])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(metres, place, SIZE, flags=flags, borderValue=np.nan)


class ScanNet(PosedFrames):
    """As the Python reader of the data set's SensReader exports it; the C++ one names files otherwise."""

    kind = "ScanNet"

    @staticmethod
    def matches(path: Path) -> bool:
        return (path / "color").is_dir() and (path / "pose").is_dir()

    def __init__(self, path: Path, choice: Choice) -> None:
        files = [file for file in images_in(path / "color") if file.stem.isdecimal()]
        problems = quiet_log()
        super().__init__(
            path,
            files,
            lambda file: path / "pose" / f"{file.stem}.txt",
            lambda file: path / "depth" / f"{file.stem}.png",
            _scannet_camera(path / "intrinsic" / "intrinsic_color.txt", _size(files, problems), problems),
            0,
            problems,
        )


def _scannet_camera(file: Path, size: tuple[int, int] | None, problems: EventLog) -> Camera | None:
    try:
        if size is not None:
            matrix = _matrix(file)
            return pinhole(*size, (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    except (SourceError, ValueError) as error:
        problems.add("no_calibration", 0, str(error))
    return None


def _size(files: list[Path], problems: EventLog) -> tuple[int, int] | None:
    try:
        return image_size(files[0]) if files else None
    except SourceError:
        return None  # told when the image is read


def _number(file: Path) -> int:
    return int((re.findall(r"\d+", file.name) or ["0"])[0][:12])


def _matrix(file: Path) -> np.ndarray:
    return np.array(read_text(file, MOST_SETTINGS).split(), dtype=float).reshape(4, 4)


def _poses(files: list[Path], stamps: list[int], problems: EventLog) -> Trajectory | None:
    """Frames whose pose is missing, broken or infinite (the tracker was lost) have no truth."""
    found: list[tuple[int, np.ndarray]] = []
    lost = 0
    for file, stamp in zip(files, stamps, strict=True):
        try:
            pose = _matrix(file)
        except (SourceError, ValueError):
            pose = np.full((4, 4), np.nan)
        if np.isfinite(pose).all() and abs(np.linalg.det(pose[:3, :3])) > 0.5:
            found.append((stamp, transform(nearest_rotation(pose[:3, :3]), pose[:3, 3])))
        else:
            lost += 1
    if lost and found:
        problems.add("no_pose", 0, f"{lost} of {len(files)} frames have no true pose")
    if not found:
        return None
    return Trajectory(tuple(s for s, _ in found), np.array([p for _, p in found]), (0,) * len(found))
