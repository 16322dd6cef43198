"""A recording or a result as a rosbag2, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loger_ros.evaluation.sources import Source, SourceError
from loger_ros.evaluation.sources.bag import HINT
from loger_ros.geometry import quaternion
from loger_ros.mapping.cloud import Cloud
from loger_ros.offered_qos import LATCHED, offered
from loger_ros.types import Camera, Trajectory

MAP_FRAME, BASE_FRAME, CAMERA_FRAME, WORLD_FRAME = "map", "base_link", "camera_optical_frame", "world"
FLOAT32, UINT32 = 7, 6  # of PointField
Progress = Callable[[int], None]


def write_source_bag(source: Source, folder: Path, progress: Progress) -> None:
    """image, camera_info, the truth as ground_truth/odometry of the camera, its mounting on /tf_static."""
    truth = source.truth()
    with _writing(folder) as bag:
        if truth is not None:
            for stamp, pose in zip(truth.stamps, truth.T_map_camera, strict=True):
                bag.odometry("/ground_truth/odometry", stamp, WORLD_FRAME, pose)
        mounting = source.camera.T_base_camera if source.camera is not None else None
        for count, frame in enumerate(source.frames(), 1):
            if count == 1 and mounting is not None:
                bag.transform("/tf_static", frame.stamp, BASE_FRAME, mounting)
            if source.camera is not None:
                bag.camera_info(frame.stamp, source.camera)
            bag.image(frame.stamp, frame.image)
            progress(count)


def write_result_bag(trajectory: Trajectory, cloud: Cloud | None, folder: Path) -> None:
    """odometry and /tf of the camera in the map, and map_points at the end."""
    with _writing(folder) as bag:
        for stamp, pose in zip(trajectory.stamps, trajectory.T_map_camera, strict=True):
            bag.odometry("/odometry", stamp, MAP_FRAME, pose)
            bag.transform("/tf", stamp, MAP_FRAME, pose)
        if cloud is not None and len(trajectory):
            bag.cloud(trajectory.stamps[-1], cloud)


@contextmanager
def _writing(folder: Path) -> Iterator[_Bag]:
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise SourceError(HINT.replace("reading", "writing")) from error
    if folder.exists():
        raise ValueError(f"{folder} exists: choose a new folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        yield _Bag(writer, get_typestore(Stores.ROS2_HUMBLE))


class _Bag:
    def __init__(self, writer: Any, store: Any) -> None:
        self._writer, self._store = writer, store
        self._connections: dict[str, Any] = {}

    def image(self, stamp: int, image: np.ndarray) -> None:
        height, width, _ = image.shape
        data = np.ascontiguousarray(image).reshape(-1)
        head = self._header(stamp, CAMERA_FRAME)
        self._write("/image", stamp, "sensor_msgs/Image", head, height, width, "rgb8", 0, 3 * width, data)

    def camera_info(self, stamp: int, camera: Camera) -> None:
        matrix = np.asarray(camera.matrix, dtype=float)
        self._write(
            "/camera_info",
            stamp,
            "sensor_msgs/CameraInfo",
            self._header(stamp, CAMERA_FRAME),
            camera.height,
            camera.width,
            camera.model,
            np.array(camera.distortion or (0.0,) * 5),
            matrix.reshape(-1),
            np.eye(3).reshape(-1),
            np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
            0,
            0,
            self._make("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False),
        )

    def odometry(self, topic: str, stamp: int, frame: str, pose: np.ndarray) -> None:
        zero = self._make("geometry_msgs/Vector3", 0.0, 0.0, 0.0)
        placed = self._make(
            "geometry_msgs/Pose",
            self._make("geometry_msgs/Point", *map(float, pose[:3, 3])),
            self._make("geometry_msgs/Quaternion", *map(float, quaternion(pose[:3, :3]))),
        )
        self._write(
            topic,
            stamp,
            "nav_msgs/Odometry",
            self._header(stamp, frame),
            CAMERA_FRAME,
            self._make("geometry_msgs/PoseWithCovariance", placed, np.zeros(36)),
            self._make(
                "geometry_msgs/TwistWithCovariance",
                self._make("geometry_msgs/Twist", zero, zero),
                np.zeros(36),
            ),
        )

    def transform(self, topic: str, stamp: int, frame: str, pose: np.ndarray) -> None:
        moved = self._make(
            "geometry_msgs/Transform",
            self._make("geometry_msgs/Vector3", *map(float, pose[:3, 3])),
            self._make("geometry_msgs/Quaternion", *map(float, quaternion(pose[:3, :3]))),
        )
        head = self._header(stamp, frame)
        sent = self._make("geometry_msgs/TransformStamped", head, CAMERA_FRAME, moved)
        self._write(topic, stamp, "tf2_msgs/TFMessage", [sent])

    def cloud(self, stamp: int, cloud: Cloud) -> None:
        rows = np.empty(len(cloud), [(axis, "<f4") for axis in "xyz"] + [("rgb", "<u4")])
        for i, axis in enumerate("xyz"):
            rows[axis] = cloud.points[:, i].numpy()
        red, green, blue = cloud.colours.numpy().astype(np.uint32).T
        rows["rgb"] = red << 16 | green << 8 | blue
        kinds = {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "rgb": UINT32}
        fields = [
            self._make("sensor_msgs/PointField", name, 4 * i, kind, 1)
            for i, (name, kind) in enumerate(kinds.items())
        ]
        data = rows.view(np.uint8).reshape(-1)
        size = rows.dtype.itemsize
        self._write(
            "/map_points",
            stamp,
            "sensor_msgs/PointCloud2",
            self._header(stamp, MAP_FRAME),
            1,
            len(rows),
            fields,
            False,
            size,
            size * len(rows),
            data,
            True,
        )

    def _write(self, topic: str, stamp: int, kind: str, *fields: object) -> None:
        package, name = kind.split("/")
        full = f"{package}/msg/{name}"
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, full, typestore=self._store, offered_qos_profiles=[offered(latched=topic in LATCHED)]
            )
        message = self._store.types[full](*fields)
        self._writer.write(self._connections[topic], stamp, self._store.serialize_cdr(message, full))

    def _make(self, kind: str, *fields: object) -> object:
        package, name = kind.split("/")
        return self._store.types[f"{package}/msg/{name}"](*fields)

    def _header(self, stamp: int, frame: str) -> object:
        time = self._make("builtin_interfaces/Time", *divmod(stamp, 10**9))
        return self._make("std_msgs/Header", time, frame)
