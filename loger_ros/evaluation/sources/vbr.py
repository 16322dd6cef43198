"""VBR (Vision Benchmark in Rome): ROS 1 bags as published, or folders that its kit makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loger_ros.evaluation.sources.amended import Amended
from loger_ros.evaluation.sources.bag import Bag
from loger_ros.evaluation.sources.base import (
    Choice,
    ImageFiles,
    Source,
    SourceError,
    images_in,
    matrix_of,
    natural,
    paired_by_number,
    pinhole,
    quiet_log,
    read_rows,
    read_yaml,
)
from loger_ros.events import EventLog
from loger_ros.mapping.trajectory_files import read_tum, stamp_of
from loger_ros.types import Camera, Trajectory

CALIBRATION = "vbr_calib.yaml"
CAMERAS = {"camera_left": "cam_l", "camera_right": "cam_r"}  # topic or folder → name in the calibration


class Vbr(Amended):
    kind = "VBR"

    @staticmethod
    def matches(path: Path) -> bool:
        if not path.is_dir():
            return False
        bags = (path / CALIBRATION).is_file() and next(path.glob("*.bag"), None) is not None
        return bags or any((path / name / "data").is_dir() for name in CAMERAS)

    def __init__(self, path: Path, choice: Choice) -> None:
        name = choice.camera or "camera_left"
        if name not in CAMERAS:
            raise SourceError(f"VBR has no camera {name!r}: choose from {', '.join(CAMERAS)}")
        source: Source
        if (path / name / "data").is_dir():
            source = _Converted(path, path / name)
        else:
            bags = sorted(path.glob("*.bag"), key=lambda file: natural(file.name))
            source = Bag(path, Choice(topic=choice.topic or f"/{name}/image_raw"), bags)
        places = _places(path)
        camera, T_base_camera = _calibration(places, CAMERAS[name], source.problems)
        super().__init__(source, _truth(places, T_base_camera, source.problems), camera, "VBR")
        self.name = path.name


class _Converted(ImageFiles):
    """camera_left/data/0000000000.png and camera_left/timestamps.txt, one time per line."""

    def __init__(self, path: Path, folder: Path) -> None:
        file = folder / "timestamps.txt"
        rows = read_rows(file, 1)
        try:
            stamps = [_nanoseconds(row[0]) for row in rows]
        except ValueError as error:
            raise SourceError(f"{file} has a line that is not a time: {error}") from error
        problems = quiet_log()
        files = images_in(folder / "data")
        super().__init__(path, *paired_by_number(files, stamps, problems), problems=problems)


def _nanoseconds(text: str) -> int:
    """Parse a time such as 2023-03-01T10:00:00.100000000, or a number of seconds."""
    if "T" in text:
        return int(np.datetime64(text, "ns").astype(np.int64))
    return stamp_of(text)


def files_beside(path: Path) -> list[Path]:
    """Return where calibration and truth may be outside the recording's folder."""
    names = (CALIBRATION, _truth_name(path))
    return [place / name for place in _places(path)[1:] for name in names]


def _truth_name(path: Path) -> str:
    return f"{path.name.removesuffix('_kitti')}_gt.txt"


def _places(path: Path) -> list[Path]:
    """Return where calibration and truth may be: here, one folder up, or in the folder that was converted."""
    return [path, path.parent, path.parent / path.name.removesuffix("_kitti")]


def _calibration(places: list[Path], name: str, problems: EventLog) -> tuple[Camera | None, np.ndarray]:
    file = next((place / CALIBRATION for place in places if (place / CALIBRATION).is_file()), None)
    if file is None:
        problems.add(
            "no_calibration", 0, f"{places[0]} has no {CALIBRATION}; the true poses are taken as the camera's"
        )
        return None, np.eye(4)
    try:
        values = read_yaml(file)[name]
        T_base_camera = matrix_of(values["T_b"], file, f"{name}.T_b")
        width, height = (int(side) for side in values["resolution"])
        model = "equidistant" if "equi" in str(values.get("distortion_model", "")) else "plumb_bob"
        lens = values.get("distortion_coeffs", ())
        return pinhole(width, height, values["intrinsics"], lens, model), T_base_camera
    except (KeyError, TypeError, ValueError) as error:
        text = f"{file} does not describe {name} ({error}); the true poses are taken as the camera's"
        problems.add("no_calibration", 0, text)
        return None, np.eye(4)


def _truth(places: list[Path], T_base_camera: np.ndarray, problems: EventLog) -> Trajectory | None:
    """NAME_gt.txt: stamped poses of the base."""
    name = _truth_name(places[0])
    file = next((place / name for place in places if (place / name).is_file()), None)
    if file is None:
        return None
    try:
        truth = read_tum(file, problems)
    except ValueError as error:
        problems.add("unreadable_truth", 0, str(error))
        return None
    return Trajectory(truth.stamps, truth.T_map_camera @ T_base_camera, truth.segments)
