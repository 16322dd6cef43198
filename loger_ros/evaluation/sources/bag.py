"""Bags of ROS 2 (mcap, sqlite3, zstd) and ROS 1, read by the package rosbags, without ROS."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from loger_ros.evaluation.sources.bag_depth import BagDepth, refuse_unaligned
from loger_ros.evaluation.sources.bag_truth import BagTruth, mounting
from loger_ros.evaluation.sources.base import MOST_FRAMES, MOST_PIXELS, Choice, SourceError, quiet_log
from loger_ros.evaluation.sources.own_camera import read_camera_info
from loger_ros.ros.camera_info import camera_of, is_rectified
from loger_ros.ros.images import ImageError, rgb_of, rgb_of_compressed
from loger_ros.types import Camera, Frame, Trajectory

IMAGE_TYPE = "sensor_msgs/msg/Image"
IMAGE_TYPES = {IMAGE_TYPE: rgb_of, "sensor_msgs/msg/CompressedImage": rgb_of_compressed}
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
OTHER_IMAGES = ("depth", "disparity", "confidence", "infra", "mask", "label", "segment", "thermal")
ENDINGS = (".mcap", ".db3", ".bag")
HEAD = 12  # bytes up to the end of an image's stamp
MOST_BROKEN = 100  # messages tried to find the first intact one
HINT = "reading bags needs the package rosbags: pip install rosbags"


class Bag:
    kind = "bag"

    @staticmethod
    def matches(path: Path) -> bool:
        if path.is_dir():
            return (path / "metadata.yaml").is_file() and any(_is_storage(file) for file in path.iterdir())
        return path.suffix in ENDINGS

    def __init__(self, path: Path, choice: Choice, files: Sequence[Path] = ()) -> None:
        """files: the parts, if one recording was split into several ROS 1 bags."""
        self.name = path.stem if path.suffix in ENDINGS else path.name
        self.problems = quiet_log()
        self._files = list(files) or [path]
        self._stamps: tuple[int, ...] | None = None
        with self._opened() as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
            counts = _counts(reader)
            self.topic = _image_topic(path, types, counts, choice.topic)
            self._count = counts[self.topic]
            self.camera: Camera | None = self._mounted(self._camera(reader, types, choice), reader)
            self._ros2 = reader.is2
            self._truth = BagTruth(self._opened, types, choice, self.problems, self._camera_frame)
            self._truth.refuse_unknown(reader)
            self._depth = self._depth_of(reader, types, choice.depth)
        self.kind = f"{'rosbag2' if self._ros2 else 'ROS 1 bag'}, {self.topic}"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SourceError(HINT) from error
        store = get_typestore(Stores.ROS2_HUMBLE)
        try:
            reader = AnyReader(self._files, default_typestore=store)
            reader.open()
        except Exception as error:  # rosbags passes on any error that a broken file causes
            raise SourceError(
                f"{self._files[0]} cannot be opened as a bag ({error}). Was its recording cut off? "
                "`mcap recover`, `ros2 bag reindex` or `rosbag reindex` may repair it"
            ) from error
        try:
            yield reader
        finally:
            reader.close()

    def __len__(self) -> int:
        return min(self._count, MOST_FRAMES)

    @property
    def stamps(self) -> Sequence[int]:
        if self._stamps is None:
            self._stamps = tuple(self._stamp(data, logged) for _, logged, data, _ in self._messages())
        return self._stamps

    def frames(self) -> Iterator[Frame]:
        for number, (reader, logged, data, kind) in enumerate(self._messages(), 1):
            stamp = self._stamp(data, logged)
            try:
                message = reader.deserialize(data, kind)
                yield Frame(stamp, np.ascontiguousarray(IMAGE_TYPES[kind](message, MOST_PIXELS)))
            except ImageError as error:
                self.problems.add("unreadable_image", stamp, f"{error}; the frame is left out")
            except Exception as error:  # a damaged message can fail in any way
                text = f"message {number} of {self.topic} is damaged ({error}); the frame is left out"
                self.problems.add("damaged_message", stamp, text)

    def truth(self) -> Trajectory | None:
        return self._truth.read()

    def mount_on(self, body: str, poses: str) -> np.ndarray:
        """Return T_body_camera from static transforms. poses: where the poses come from, for messages."""
        with self._opened() as reader:
            return self._truth.mount(reader, body, poses, named=True)

    def depth(self, stamp: int) -> np.ndarray | None:
        return None if self._depth is None else self._depth.at(stamp)

    def _depth_of(self, reader: Any, types: dict[str, str], wanted: str) -> BagDepth | None:
        if not wanted:
            return None
        topic = wanted if wanted in types else f"/{wanted}"
        if types.get(topic) != IMAGE_TYPE:
            offered = ", ".join(sorted(name for name, kind in types.items() if kind == IMAGE_TYPE))
            raise SourceError(
                f"{self._files[0]} has no topic {wanted} of type {IMAGE_TYPE}; topics of this type: "
                f"{offered or 'none'}"
            )
        try:
            first = _first(reader, topic)
        except Exception as error:  # a damaged message can fail in any way
            raise SourceError(f"{topic} has no depth image that can be read ({error})") from error
        refuse_unaligned(topic, first, self._camera_frame)
        return BagDepth(self._opened, topic, self.problems)

    def _messages(self) -> Iterator[tuple[Any, int, bytes, str]]:
        """Yield messages up to the end, or up to where the bag is broken, which is reported once."""
        number = 0
        with self._opened() as reader:
            connections = [connection for connection in reader.connections if connection.topic == self.topic]
            messages = reader.messages(connections)
            while number < MOST_FRAMES:
                try:
                    connection, logged, data = next(messages)
                except StopIteration:
                    break
                except Exception as error:  # a broken file can fail in any way
                    text = f"{self._files[0]} is broken after {number} of {self._count} images ({error})"
                    if "bag_broken" not in self.problems.counts:
                        self.problems.add("bag_broken", 0, f"{text}; the rest is left out")
                    return
                number += 1
                yield reader, logged, data, connection.msgtype
        if number < self._count and "bag_ends_early" not in self.problems.counts:
            text = f"{self._files[0]} announces {self._count} images, but has {number}: is it complete?"
            self.problems.add("bag_ends_early", 0, text)

    def _stamp(self, data: bytes, logged: int) -> int:
        """Return the header's stamp in ns; if it is 0 or cut off, the time of recording."""
        if len(data) < HEAD:
            return int(logged)  # the damaged message is reported when it is read
        head = struct.unpack_from("<iI", data, 4) if self._ros2 else struct.unpack_from("<II", data, 4)
        if self._ros2 and data[1] == 0:  # big-endian CDR
            head = struct.unpack_from(">iI", data, 4)
        stamp = head[0] * 1_000_000_000 + head[1]
        if stamp == 0:
            if "no_stamps" not in self.problems.counts:
                text = f"images of {self.topic} have no stamps: the times of recording are used instead"
                self.problems.add("no_stamps", logged, text)
            return int(logged)
        return stamp

    def _camera(self, reader: Any, types: dict[str, str], choice: Choice) -> Camera | None:
        """Return the camera of the camera_info beside the images, or of the only one with their frame."""
        given = read_camera_info(Path(choice.camera_info)) if choice.camera_info else None
        self._camera_frame = ""
        topic: str | None = f"the camera_info of {self.topic}"
        try:
            self._camera_frame = _first(reader, self.topic).header.frame_id
            if given is not None:
                return given
            topic = self._info_topic(reader, types)
            if topic is None:
                return None
            camera = camera_of(_first(reader, topic), is_rectified(self.topic))
            if camera is None:
                raise ValueError("it is not calibrated")
            return camera
        except Exception as error:  # images can be used without a camera
            self.problems.add("no_camera_info", 0, f"no camera can be read from {topic} ({error})")
            return None

    def _info_topic(self, reader: Any, types: dict[str, str]) -> str | None:
        infos = sorted(topic for topic, kind in types.items() if kind == INFO_TYPE)
        beside = f"{self.topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
        if not infos or beside in infos:
            return beside if infos else None
        frames = {topic: _frame_of(reader, topic) for topic in infos}
        same = [topic for topic in infos if frames[topic] and frames[topic] == self._camera_frame]
        if len(same) == 1:
            return same[0]
        text = (
            f"no camera_info is known to belong to {self.topic} (frame {self._camera_frame!r}): "
            f"{', '.join(f'{topic} has the frame {frame!r}' for topic, frame in frames.items())}. "
            f"Images are used as they are; record {beside} with them, or give --camera-info FILE"
        )
        self.problems.add("no_camera_info", 0, text)
        return None

    def _mounted(self, camera: Camera | None, reader: Any) -> Camera | None:
        try:
            return camera and replace(
                camera, T_base_camera=mounting(reader, self._camera_frame, self.problems)
            )
        except Exception as error:  # in /tf_static; the camera itself is known
            self.problems.add(
                "no_mounting", 0, f"/tf_static does not say how the camera is mounted ({error})"
            )
            return camera


def _first(reader: Any, topic: str) -> Any:
    """Return the first intact message."""
    connections = [connection for connection in reader.connections if connection.topic == topic]
    broken: Exception = ValueError("it has no messages")
    for connection, _, data in islice(reader.messages(connections), MOST_BROKEN):
        try:
            return reader.deserialize(data, connection.msgtype)
        except Exception as error:  # a damaged message can fail in any way
            broken = error
    raise broken


def _frame_of(reader: Any, topic: str) -> str:
    try:
        return str(_first(reader, topic).header.frame_id)
    except Exception:  # no message, or none that can be read
        return ""


def _is_storage(file: Path) -> bool:
    return any(ending in file.suffixes for ending in ENDINGS)


def _counts(reader: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for connection in reader.connections:
        counts[connection.topic] = counts.get(connection.topic, 0) + int(connection.msgcount)
    return counts


def _image_topic(path: Path, types: dict[str, str], counts: dict[str, int], wanted: str) -> str:
    """Return the wanted topic; without one, prefer colour to depth and the like, then the most messages."""
    images = [topic for topic, kind in types.items() if kind in IMAGE_TYPES and counts[topic]]
    offered = ", ".join(sorted(images)) or "none"
    if wanted:
        topic = wanted if wanted in types else f"/{wanted}"
        if topic not in types:
            raise SourceError(f"{path} has no topic {wanted}; topics with images: {offered}")
        if topic not in images:
            raise SourceError(
                f"{topic} in {path} has no images ({types[topic]}); topics with images: {offered}"
            )
        return topic
    if not images:
        raise SourceError(f"{path} has no images; its topics are {', '.join(sorted(types)) or 'none'}")
    other = [any(word in topic.lower() for word in OTHER_IMAGES) for topic in images]
    ranked = sorted(zip(other, (-counts[topic] for topic in images), images, strict=True))
    return ranked[0][2]
