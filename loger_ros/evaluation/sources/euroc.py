"""EuRoC MAV (and TUM VI in its layout): mav0/cam0 with data.csv, poses of the IMU.

EuRoC's calibration is mav0/cam0/sensor.yaml, TUM VI's is dso/camchain.yaml, as Kalibr writes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loger_ros.evaluation.sources.base import (
    Choice,
    ImageFiles,
    SourceError,
    matrix_of,
    pinhole,
    quiet_log,
    read_rows,
    read_yaml,
)
from loger_ros.events import EventLog
from loger_ros.geometry import inverse, rotation_of, transform
from loger_ros.types import Camera, Trajectory

CAMCHAIN = Path("dso") / "camchain.yaml"
TRUTHS = ("state_groundtruth_estimate0", "mocap0")
MODELS = {"radial-tangential": "plumb_bob", "radtan": "plumb_bob", "equidistant": "equidistant"}


class Euroc(ImageFiles):
    kind = "EuRoC"

    @staticmethod
    def matches(path: Path) -> bool:
        return any((place / "cam0" / "data.csv").is_file() for place in (path / "mav0", path))

    def __init__(self, path: Path, choice: Choice) -> None:
        mav = path / "mav0" if (path / "mav0").is_dir() else path
        folder = mav / (choice.camera or "cam0")
        if not (folder / "data.csv").is_file():
            there = ", ".join(sorted(place.parent.name for place in mav.glob("cam*/data.csv")))
            raise SourceError(f"{path} has no camera {folder.name!r}: choose from {there}")
        problems = quiet_log()
        rows = read_rows(folder / "data.csv", 2)
        try:
            stamps = [int(row[0]) for row in rows]
        except ValueError as error:
            raise SourceError(f"{folder / 'data.csv'} has a stamp that is not an integer: {error}") from error
        camera, T_body_camera = _sensor(mav, folder.name, problems)
        super().__init__(
            path if mav != path else path.parent,
            [folder / "data" / row[1] for row in rows],
            stamps,
            camera=camera,
            truth=_truth(mav, T_body_camera, problems),
            problems=problems,
        )


def _sensor(mav: Path, name: str, problems: EventLog) -> tuple[Camera | None, np.ndarray]:
    file, chain = mav / name / "sensor.yaml", mav.resolve().parent / CAMCHAIN
    try:
        if not file.is_file() and chain.is_file():
            file = chain
            values = read_yaml(file)[name]
            T_body_camera = inverse(matrix_of(values["T_cam_imu"], file, f"{name}.T_cam_imu"))
        else:
            values = read_yaml(file)
            T_body_camera = matrix_of(values.get("T_BS"), file, "T_BS")
    except (SourceError, KeyError, TypeError) as error:
        why = error if isinstance(error, SourceError) else f"{file} does not describe {name} ({error!r})"
        problems.add("no_calibration", 0, f"{why}; the true poses are taken as the camera's")
        return None, np.eye(4)
    try:
        model = MODELS[values.get("distortion_model", "radial-tangential")]
        width, height = (int(side) for side in values["resolution"])
        lens = values.get("distortion_coefficients", values.get("distortion_coeffs", ()))
        return pinhole(width, height, values["intrinsics"], lens, model), T_body_camera
    except (KeyError, TypeError, ValueError) as error:
        problems.add("no_camera", 0, f"{file} does not describe a supported camera ({error!r})")
        return None, T_body_camera


def _truth(mav: Path, T_body_camera: np.ndarray, problems: EventLog) -> Trajectory | None:
    file = next((mav / name / "data.csv" for name in TRUTHS if (mav / name / "data.csv").is_file()), None)
    if file is None:
        return None
    try:
        rows = read_rows(file, 8)
        stamps = tuple(int(row[0]) for row in rows)
        table = np.array([[float(word) for word in row[1:8]] for row in rows]).reshape(-1, 7)
        if not np.isfinite(table).all() or not table[:, 3:].any(1).all():
            raise ValueError("some poses are not finite, or their quaternion is zero")
    except ValueError as error:
        problems.add("unreadable_truth", 0, f"{file}: {error}")
        return None
    poses = transform(rotation_of(table[:, [4, 5, 6, 3]]), table[:, :3])  # the quaternion is w, x, y, z
    return Trajectory(stamps, poses @ T_body_camera, (0,) * len(stamps))
