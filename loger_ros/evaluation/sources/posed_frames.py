"""7-Scenes, ScanNet and the like: files with the pose (camera to world) and with the depth of each frame."""

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
# Of 7-Scenes, in pixels. Its page gives only the depth camera's focal length; benchmarks use 525 for colour.
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
        depth_scale: float = 1000.0,
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
            depth_scale=depth_scale,
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
            lambda file: _beside(file, "pose.txt"),
            lambda file: _beside(file, "depth.png"),
            camera if size == SIZE else None,
            65535,
            problems,
        )

    def depth(self, stamp: int) -> np.ndarray | None:
        """Return depth as the (wider) colour camera sees it; the centimetres between both are ignored."""
        metres = super().depth(stamp)
        if metres is None or metres.shape != SIZE[::-1]:
            return metres
        share = DEPTH_FOCAL / COLOUR_FOCAL
        place = np.array([[share, 0, (1 - share) * CENTRE[0]], [0, share, (1 - share) * CENTRE[1]]])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(metres, place, SIZE, flags=flags, borderValue=np.nan)


class ScanNet(PosedFrames):
    """Frames as the Python version of the data set's SensReader exports them."""

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


class SensorFrames(PosedFrames):
    """Frames as ScanNet's C++ SensReader exports them, also those of 12-Scenes, 3RScan and BundleFusion."""

    kind = "SensReader frames"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and next(path.glob("frame-*.color.jpg"), None) is not None

    def __init__(self, path: Path, choice: Choice) -> None:
        files = [file for file in images_in(path) if file.name.endswith(".color.jpg")]
        problems = quiet_log()
        camera, depth_scale = _described(path, _size(files, problems), problems)

        def depth_of(file: Path) -> Path:
            pgm = _beside(file, "depth.pgm")
            return pgm if pgm.is_file() else _beside(file, "depth.png")

        super().__init__(
            path,
            files,
            lambda file: _beside(file, "pose.txt"),
            depth_of,
            camera,
            0,
            problems,
            depth_scale,
        )


def _described(path: Path, size: tuple[int, int] | None, problems: EventLog) -> tuple[Camera | None, float]:
    """Return the camera of the colour images, and the steps of depth per metre."""
    places = (path / "_info.txt", path / "info.txt", path.parent / "info.txt")
    file = next((place for place in places if place.is_file()), places[0])
    try:
        lines = (line.partition("=") for line in read_text(file, MOST_SETTINGS).splitlines())
        values = {name.strip(): text.split() for name, _, text in lines}
        numbers = np.array(values["m_calibrationColorIntrinsic"], dtype=float).reshape(4, 4)
        width, height = (int(values[f"m_color{side}"][0]) for side in ("Width", "Height"))
        scale = float(values.get("m_depthShift", ["1000"])[0])
        if not scale > 0:
            raise ValueError(f"m_depthShift is {scale}")
        lens = (numbers[0, 0], numbers[1, 1], numbers[0, 2], numbers[1, 2])
        if (width, height) != size:
            problems.add(
                "no_calibration",
                0,
                f"{file} is for {width}x{height} pixels, but the images have another size",
            )
            return None, scale
        return pinhole(width, height, lens), scale
    except (SourceError, KeyError, IndexError, ValueError) as error:
        why = error if isinstance(error, SourceError) else f"{file} does not describe a camera ({error!r})"
        problems.add("no_calibration", 0, str(why))
        return None, 1000.0


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
        return None  # reported when the image is read


def _beside(file: Path, ending: str) -> Path:
    """Return another file of the same frame: frame-000000.ENDING for frame-000000.color.png."""
    return file.with_name(f"{file.name.partition('.')[0]}.{ending}")


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
