"""A camera that the recording does not describe, or describes wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from loger_ros.evaluation.sources.base import Choice, SourceError, read_yaml
from loger_ros.geometry import mount
from loger_ros.ros.camera_info import camera_of
from loger_ros.types import Camera


def own_camera(camera: Camera | None, choice: Choice) -> Camera | None:
    """Return the camera as the user describes it, with the rest from ``camera``, that of the recording."""
    if choice.camera_info:
        mounted = camera.T_base_camera if camera else None
        camera = replace(read_camera_info(Path(choice.camera_info)), T_base_camera=mounted)
    if choice.camera_xyz or choice.camera_rpy:
        if camera is None:
            raise SourceError(
                "--camera-xyz and --camera-rpy mount a camera, but the recording does not describe the "
                "camera itself: give --camera-info FILE, too"
            )
        camera = replace(camera, T_base_camera=own_mounting(camera.T_base_camera, choice))
    return camera


def own_mounting(known: np.ndarray | None, choice: Choice) -> np.ndarray:
    """Return T_base_camera; a position or rotation that is not given is that of the recording, else zero."""
    xyz, rpy = choice.camera_xyz or (0.0,) * 3, choice.camera_rpy or (0.0,) * 3
    if not np.isfinite([xyz, rpy]).all():
        raise SourceError("--camera-xyz and --camera-rpy must be finite numbers")
    T_base_camera = mount(xyz, rpy)
    if known is not None and not choice.camera_xyz:
        T_base_camera[:3, 3] = known[:3, 3]
    if known is not None and not choice.camera_rpy:
        T_base_camera[:3, :3] = known[:3, :3]
    return T_base_camera


def read_camera_info(file: Path) -> Camera:
    """Read a calibration as ROS's camera_calibration writes it."""
    values = read_yaml(file)
    try:
        count = len(values["camera_matrix"]["data"])
        if count != 9:
            raise ValueError(f"camera_matrix has {count} numbers, not 9")
        camera = camera_of(
            SimpleNamespace(
                width=int(values["image_width"]),
                height=int(values["image_height"]),
                k=values["camera_matrix"]["data"],
                d=values["distortion_coefficients"]["data"],
                p=[0.0] * 12,
                distortion_model=values["distortion_model"],
                roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
                binning_x=0,
                binning_y=0,
            )
        )
    except KeyError as error:
        raise SourceError(
            f"{file} has no {error.args[0]}: a calibration as ROS's camera_calibration writes it has "
            "image_width, image_height, camera_matrix, distortion_model and distortion_coefficients"
        ) from error
    except (TypeError, ValueError, IndexError) as error:
        raise SourceError(f"{file} is not a camera calibration: {error}") from error
    if camera is None:
        raise SourceError(f"{file} is not a camera calibration: its size or focal length is 0")
    return camera
