"""A recording or a result as a rosbag2, without ROS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loger_ros.bags import writing_bag
from loger_ros.evaluation.sources import Source
from loger_ros.mapping.cloud import Cloud
from loger_ros.types import CAMERA_FRAME, Trajectory

MAP_FRAME, BASE_FRAME, WORLD_FRAME = "map", "base_link", "world"


def write_source_bag(source: Source, folder: Path, progress: Callable[[int], object]) -> None:
    """Write image, camera_info, the camera's true poses (ground_truth/odometry) and mounting (/tf_static)."""
    truth, camera = source.truth(), source.camera
    mounting = camera.T_base_camera if camera is not None else None
    with writing_bag(folder) as bag:
        messages = bag.messages
        if truth is not None:
            for stamp, pose in zip(truth.stamps, truth.T_map_camera, strict=True):
                placed = messages.odometry(stamp, WORLD_FRAME, CAMERA_FRAME, pose)
                bag.write("/ground_truth/odometry", stamp, placed)
        for count, frame in enumerate(source.frames(), 1):
            stamp = frame.stamp
            if count == 1 and mounting is not None:
                bag.write("/tf_static", stamp, messages.tf(stamp, BASE_FRAME, CAMERA_FRAME, mounting))
            if camera is not None:
                bag.write("/camera_info", stamp, messages.camera_info(stamp, camera))
            bag.write("/image", stamp, messages.rgb(stamp, frame.image))
            progress(count)


def write_result_bag(trajectory: Trajectory, cloud: Cloud | None, folder: Path) -> None:
    """Write the camera's poses in the map as odometry and /tf, and map_points at the end."""
    with writing_bag(folder) as bag:
        messages = bag.messages
        for stamp, pose in zip(trajectory.stamps, trajectory.T_map_camera, strict=True):
            bag.write("/odometry", stamp, messages.odometry(stamp, MAP_FRAME, CAMERA_FRAME, pose))
            bag.write("/tf", stamp, messages.tf(stamp, MAP_FRAME, CAMERA_FRAME, pose))
        if cloud is not None and len(trajectory):
            last = trajectory.stamps[-1]
            points = messages.cloud(last, MAP_FRAME, cloud.points.numpy(), cloud.colours.numpy())
            bag.write("/map_points", last, points)
