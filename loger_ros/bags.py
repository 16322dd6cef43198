"""Writes rosbag2 files without ROS, with the package rosbags."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from loger_ros.geometry import quaternion
from loger_ros.types import CAMERA_FRAME, Camera

STORAGES = ("mcap", "sqlite3")
LATCHED = ("/tf_static", "/map_points")  # late subscribers get the last one
JPEG_QUALITY = 90
FLOAT32, UINT32 = 7, 6  # of PointField
FOREVER = 9223372036  # s: what ROS writes when there is no limit


def offered(depth: int = 10, reliable: bool = True, latched: bool = False) -> Any:
    """Return the QoS that a bag records for a topic, so that a player publishes it in the same way.

    Raises ImportError if rosbags is not installed.
    """
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(FOREVER, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


@contextmanager
def writing_bag(folder: Path, storage: str = "mcap") -> Iterator[BagWriter]:
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise ValueError("writing a bag needs the package rosbags: pip install rosbags") from error
    if storage not in STORAGES:
        raise ValueError(f"storage must be one of {STORAGES}, got {storage!r}")
    if folder.exists():
        raise ValueError(f"{folder} exists: choose a new folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        yield BagWriter(writer, get_typestore(Stores.ROS2_HUMBLE))  # its definitions are still current


class BagWriter:
    def __init__(self, writer: Any, store: Any) -> None:
        self.messages = BagMessages(store.types)
        self._writer, self._store = writer, store
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, stamp: int, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            qos = [offered(latched=topic in LATCHED)]
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=qos
            )
        self._writer.write(self._connections[topic], stamp, self._store.serialize_cdr(message, kind))


class BagMessages:
    """Builds messages from a rosbags type store."""

    def __init__(self, types: dict) -> None:
        self._types = types

    def rgb(self, stamp: int, image: np.ndarray) -> Any:
        height, width, _ = image.shape
        data = np.ascontiguousarray(image).reshape(-1)
        header = self._header(stamp, CAMERA_FRAME)
        return self._make("sensor_msgs/Image", header, height, width, "rgb8", 0, 3 * width, data)

    def depth(self, stamp: int, metres: np.ndarray) -> Any:
        height, width = metres.shape
        data = metres.astype("<f4").view(np.uint8).reshape(-1)
        header = self._header(stamp, CAMERA_FRAME)
        return self._make("sensor_msgs/Image", header, height, width, "32FC1", 0, 4 * width, data)

    def jpeg(self, stamp: int, image: np.ndarray) -> Any:
        data = io.BytesIO()
        Image.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY)
        content = np.frombuffer(data.getvalue(), np.uint8)
        return self._make("sensor_msgs/CompressedImage", self._header(stamp, CAMERA_FRAME), "jpeg", content)

    def camera_info(self, stamp: int, camera: Camera) -> Any:
        return self._make(
            "sensor_msgs/CameraInfo",
            self._header(stamp, CAMERA_FRAME),
            camera.height,
            camera.width,
            camera.model,
            np.array(camera.distortion or (0.0,) * 5),
            camera.matrix.reshape(-1),
            np.eye(3).reshape(-1),
            np.hstack([camera.matrix, np.zeros((3, 1))]).reshape(-1),
            0,
            0,
            self._make("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False),
        )

    def odometry(
        self, stamp: int, parent: str, child: str, pose: np.ndarray, twist: np.ndarray | None = None
    ) -> Any:
        """twist: (6,) linear along ahead, left, up of the child, then angular about these axes."""
        moving = np.zeros(6) if twist is None else twist
        place = self._make("geometry_msgs/Pose", *self._place(pose, "Point"))
        vectors = [self._make("geometry_msgs/Vector3", *part.tolist()) for part in np.split(moving, 2)]
        return self._make(
            "nav_msgs/Odometry",
            self._header(stamp, parent),
            child,
            self._make("geometry_msgs/PoseWithCovariance", place, np.zeros(36)),
            self._make(
                "geometry_msgs/TwistWithCovariance", self._make("geometry_msgs/Twist", *vectors), np.zeros(36)
            ),
        )

    def tf(self, stamp: int, parent: str, child: str, pose: np.ndarray) -> Any:
        transform = self._make("geometry_msgs/Transform", *self._place(pose, "Vector3"))
        stamped = self._make("geometry_msgs/TransformStamped", self._header(stamp, parent), child, transform)
        return self._make("tf2_msgs/TFMessage", [stamped])

    def cloud(self, stamp: int, frame: str, points: np.ndarray, colours: np.ndarray) -> Any:
        """points: (N, 3) m; colours: (N, 3) uint8."""
        rows = np.empty(len(points), [(axis, "<f4") for axis in "xyz"] + [("rgb", "<u4")])
        for i, axis in enumerate("xyz"):
            rows[axis] = points[:, i]
        red, green, blue = colours.astype(np.uint32).T
        rows["rgb"] = red << 16 | green << 8 | blue
        kinds = {"x": FLOAT32, "y": FLOAT32, "z": FLOAT32, "rgb": UINT32}
        fields = [
            self._make("sensor_msgs/PointField", name, 4 * i, kind, 1)
            for i, (name, kind) in enumerate(kinds.items())
        ]
        size, data = rows.dtype.itemsize, rows.view(np.uint8).reshape(-1)
        shape = (1, len(rows), fields, False, size, size * len(rows))
        return self._make("sensor_msgs/PointCloud2", self._header(stamp, frame), *shape, data, True)

    def _make(self, name: str, *fields: object) -> Any:
        package, kind = name.split("/")
        return self._types[f"{package}/msg/{kind}"](*fields)

    def _header(self, stamp: int, frame: str) -> Any:
        time = self._make("builtin_interfaces/Time", *divmod(stamp, 10**9))
        return self._make("std_msgs/Header", time, frame)

    def _place(self, pose: np.ndarray, kind: str) -> tuple[Any, Any]:
        position = self._make(f"geometry_msgs/{kind}", *pose[:3, 3].tolist())
        turn = self._make("geometry_msgs/Quaternion", *quaternion(pose[:3, :3]).tolist())
        return position, turn
