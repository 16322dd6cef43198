"""Sequences as rosbag2, without ROS."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from loger_ros.geometry import quaternion
from loger_ros.offered_qos import LATCHED, offered
from loger_ros.world.camera import Camera
from loger_ros.world.folders import Progress, quiet
from loger_ros.world.sequences import BASE_FRAME, CAMERA_FRAME, TRUTH_FRAME, WORLD_FRAME, Sequence

STORAGES = ("mcap", "sqlite3")
JPEG_QUALITY = 90


def write_bag(
    sequence: Sequence,
    folder: Path,
    storage: str = "mcap",
    compressed: bool = False,
    depth: bool = False,
    progress: Progress = quiet,
) -> None:
    """image, camera_info, ground_truth/odometry, /tf (world → base_link_truth), the mount on /tf_static."""
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise ValueError("writing a bag needs the package rosbags: pip install rosbags") from error
    if storage not in STORAGES:
        raise ValueError(f"storage must be one of {STORAGES}, got {storage!r}")
    if folder.exists():
        raise ValueError(f"{folder} exists: choose a new folder, or remove it first")
    store = get_typestore(Stores.ROS2_HUMBLE)  # its definitions are still those of today's distributions
    messages = BagMessages(store.types)
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    image_topic, image_type = ("image/compressed", "CompressedImage") if compressed else ("image", "Image")
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        topics = {
            f"/{image_topic}": f"sensor_msgs/msg/{image_type}",
            "/camera_info": "sensor_msgs/msg/CameraInfo",
            "/ground_truth/odometry": "nav_msgs/msg/Odometry",
            "/tf": "tf2_msgs/msg/TFMessage",
            "/tf_static": "tf2_msgs/msg/TFMessage",
        }
        if depth:
            topics["/depth/image"] = "sensor_msgs/msg/Image"
        connections = {
            name: writer.add_connection(
                name, kind, typestore=store, offered_qos_profiles=[offered(latched=name in LATCHED)]
            )
            for name, kind in topics.items()
        }

        def write(topic: str, stamp: int, message: object) -> None:
            data = store.serialize_cdr(message, topics[topic])
            writer.write(connections[topic], stamp, data)

        mount = sequence.mount_transform
        write("/tf_static", int(sequence.stamps[0]), messages.tf(0, BASE_FRAME, CAMERA_FRAME, mount))
        base, twist = sequence.T_world_base, sequence.base_twist
        number = 0
        for clip in sequence.clips():
            metres = clip.depth.cpu().numpy()
            for i, frame in enumerate(clip.frames()):
                stamp = frame.stamp
                picture = (
                    messages.jpeg(stamp, frame.image) if compressed else messages.rgb(stamp, frame.image)
                )
                write(f"/{image_topic}", stamp, picture)
                write("/camera_info", stamp, messages.camera_info(stamp, sequence.camera))
                write("/ground_truth/odometry", stamp, messages.odometry(stamp, base[number], twist[number]))
                write("/tf", stamp, messages.tf(stamp, WORLD_FRAME, TRUTH_FRAME, base[number]))
                if depth:
                    write("/depth/image", stamp, messages.depth(stamp, metres[i]))
                number += 1
            progress(number)


class BagMessages:
    """Builds messages out of a rosbags type store."""

    def __init__(self, types: dict) -> None:
        self._types = types

    def _make(self, name: str, *fields: object) -> object:
        package, kind = name.split("/")
        return self._types[f"{package}/msg/{kind}"](*fields)

    def _header(self, stamp: int, frame: str) -> object:
        return self._make(
            "std_msgs/Header", self._make("builtin_interfaces/Time", *divmod(stamp, 10**9)), frame
        )

    def rgb(self, stamp: int, image: np.ndarray) -> object:
        height, width, _ = image.shape
        header = self._header(stamp, CAMERA_FRAME)
        return self._make("sensor_msgs/Image", header, height, width, "rgb8", 0, 3 * width, image.reshape(-1))

    def depth(self, stamp: int, metres: np.ndarray) -> object:
        height, width = metres.shape
        data = metres.astype("<f4").view(np.uint8).reshape(-1)
        header = self._header(stamp, CAMERA_FRAME)
        return self._make("sensor_msgs/Image", header, height, width, "32FC1", 0, 4 * width, data)

    def jpeg(self, stamp: int, image: np.ndarray) -> object:
        data = io.BytesIO()
        Image.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY)
        content = np.frombuffer(data.getvalue(), np.uint8)
        return self._make("sensor_msgs/CompressedImage", self._header(stamp, CAMERA_FRAME), "jpeg", content)

    def camera_info(self, stamp: int, camera: Camera) -> object:
        matrix = camera.matrix()
        return self._make(
            "sensor_msgs/CameraInfo",
            self._header(stamp, CAMERA_FRAME),
            camera.height,
            camera.width,
            "plumb_bob",
            np.array(camera.distortion or (0.0,) * 5),
            matrix.reshape(-1),
            np.eye(3).reshape(-1),
            np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
            0,
            0,
            self._make("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False),
        )

    def odometry(self, stamp: int, pose: np.ndarray, twist: np.ndarray) -> object:
        vector = lambda values: self._make("geometry_msgs/Vector3", *map(float, values))  # noqa: E731
        placed = self._make(
            "geometry_msgs/Pose",
            self._make("geometry_msgs/Point", *map(float, pose[:3, 3])),
            self._make("geometry_msgs/Quaternion", *map(float, quaternion(pose[:3, :3]))),
        )
        return self._make(
            "nav_msgs/Odometry",
            self._header(stamp, WORLD_FRAME),
            TRUTH_FRAME,
            self._make("geometry_msgs/PoseWithCovariance", placed, np.zeros(36)),
            self._make(
                "geometry_msgs/TwistWithCovariance",
                self._make("geometry_msgs/Twist", vector(twist[:3]), vector(twist[3:])),
                np.zeros(36),
            ),
        )

    def tf(self, stamp: int, parent: str, child: str, pose: np.ndarray) -> object:
        transform = self._make(
            "geometry_msgs/Transform",
            self._make("geometry_msgs/Vector3", *map(float, pose[:3, 3])),
            self._make("geometry_msgs/Quaternion", *map(float, quaternion(pose[:3, :3]))),
        )
        stamped = self._make("geometry_msgs/TransformStamped", self._header(stamp, parent), child, transform)
        return self._make("tf2_msgs/TFMessage", [stamped])
