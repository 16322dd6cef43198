"""Oxford Spires: raw images named by their stamps, poses of the base in gt-tum.txt, fisheye calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loger_ros.evaluation.sources.base import (
    Choice,
    ImageFiles,
    SourceError,
    images_in,
    matrix_of,
    pinhole,
    quiet_log,
    read_yaml,
)
from loger_ros.events import EventLog
from loger_ros.geometry import inverse, rotation_of, transform
from loger_ros.mapping.trajectory_files import read_tum, stamp_of
from loger_ros.types import Camera, Trajectory

IMAGES = ("raw", "raw/images", "images")  # where images.zip may have been unpacked
TRUTH = Path("processed") / "trajectory" / "gt-tum.txt"
EXTRINSICS = ("cam-lidar-imu.yaml", "cam-lidar.yaml")
# Set by hand by the authors of the data set: the base is below the lidar, rotated about the vertical.
T_BASE_LIDAR = transform(rotation_of(np.array([0.0, 0.0, 1.0, 0.0])), np.array([0.0, 0.0, 0.124]))


class OxfordSpires(ImageFiles):
    kind = "Oxford Spires"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and _folder(path, "cam0") is not None

    def __init__(self, path: Path, choice: Choice) -> None:
        name = choice.camera or "cam0"
        folder = _folder(path, name)
        if folder is None:
            raise SourceError(f"{path} has no images of {name!r}: choose from cam0, cam1, cam2")
        files = images_in(folder)
        try:
            stamps = [stamp_of(file.stem) for file in files]
        except ValueError as error:
            raise SourceError(f"{folder} has an image whose name is not a stamp: {error}") from error
        problems = quiet_log()
        camera, T_base_camera = _calibration(path, name, problems)
        super().__init__(
            path, files, stamps, camera=camera, truth=_truth(path, T_base_camera, problems), problems=problems
        )


def _folder(path: Path, name: str) -> Path | None:
    return next((path / place / name for place in IMAGES if (path / place / name).is_dir()), None)


def files_beside(path: Path) -> list[Path]:
    """Return the calibration files outside the recording's folder."""
    return [file for folder in _calibrations(path)[1:] for file in sorted(folder.glob("*.yaml"))]


def _calibrations(path: Path) -> list[Path]:
    return [parent / "calibration" for parent in (path, *path.resolve().parents[:2])]


def _calibration(path: Path, name: str, problems: EventLog) -> tuple[Camera | None, np.ndarray]:
    """Read calibration/ of the sequence, or of the data set that it belongs to."""
    folder = next((place for place in _calibrations(path) if (place / f"{name}.yaml").is_file()), None)
    if folder is None:
        problems.add(
            "no_calibration", 0, f"{path} has no calibration folder; the true poses are taken as the camera's"
        )
        return None, np.eye(4)
    camera, T_base_camera = None, np.eye(4)
    try:
        values = read_yaml(folder / f"{name}.yaml")
        matrix = np.array(values["camera_matrix"]["data"], dtype=float).reshape(3, 3)
        camera = pinhole(
            int(values["image_width"]),
            int(values["image_height"]),
            (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]),
            values["distortion_coefficients"]["data"],
            values.get("distortion_model", "equidistant"),
        )
        file = next(folder / each for each in EXTRINSICS if (folder / each).is_file())
        T_camera_lidar = matrix_of(read_yaml(file)[name]["T_cam_lidar"], file, f"{name}.T_cam_lidar")
        T_base_camera = T_BASE_LIDAR @ inverse(T_camera_lidar)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        problems.add("no_calibration", 0, f"{folder} does not describe {name} ({error!r})")
    return camera, T_base_camera


def _truth(path: Path, T_base_camera: np.ndarray, problems: EventLog) -> Trajectory | None:
    if not (path / TRUTH).is_file():
        return None
    try:
        truth = read_tum(path / TRUTH, problems)
    except ValueError as error:
        problems.add("unreadable_truth", 0, str(error))
        return None
    return Trajectory(truth.stamps, truth.T_map_camera @ T_base_camera, truth.segments)
