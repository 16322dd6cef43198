"""The publishers of one camera. No message is built unless somebody subscribes to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from loger_ros.mapping.cloud import Cloud
from loger_ros.ros import interface
from loger_ros.ros.clouds import cloud_message
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.depth_images import as_taken, confidence_message, depth_message, fitted_camera, turned_back
from loger_ros.ros.interface import Topic, qos_profile
from loger_ros.ros.messages import camera_info_message, header
from loger_ros.ros.motion_messages import fill_pose
from loger_ros.ros.odometry import Motion
from loger_ros.ros.packed_messages import PackedOdometry, PackedPose, PackedTransforms
from loger_ros.stream.lens import turn_between
from loger_ros.types import Camera, Update

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

PATH_SHARE = 0.05  # of the time of the network's thread, at most, for the path
MAP_SHARE = 0.1  # and for the map, which may have millions of points
PATH_CHEAP = 2e-3  # s: a path that takes less is sent after each chunk

Aged = Callable[[str, int], None]  # topic, stamp of what was published there


class Outputs:
    def __init__(self, node: Node, camera: str, config: NodeConfig, moves_tf: bool, aged: Aged) -> None:
        self._node = node
        self._prefix = f"{camera}/" if camera else ""
        self._config = config
        self._aged = aged
        frames = config.frames
        # Several cameras have maps of their own; only the first one's is in the TF tree.
        own = "" if moves_tf else self._prefix
        self.map_frame, self.odom_frame, self.base_frame = own + frames.map, own + frames.odom, frames.base
        self._publishers: list[Publisher] = []
        self._odometry = self._publisher(Odometry, interface.ODOMETRY)
        self._pose = self._publisher(PoseWithCovarianceStamped, interface.POSE)
        self._path = self._publisher(Path, interface.PATH)
        self._points = self._publisher(PointCloud2, interface.POINTS)
        self._map_points = self._publisher(PointCloud2, interface.MAP_POINTS)
        self._depth = self._publisher(Image, interface.DEPTH_IMAGE)
        self._depth_info = self._publisher(CameraInfo, interface.DEPTH_INFO)
        self._confidence = self._publisher(Image, interface.CONFIDENCE_IMAGE)
        self._taken = self._publisher(Time, interface.TAKEN)
        self._tf = (
            self._publisher(TFMessage, interface.TF)
            if moves_tf and (frames.publish_map_odom or frames.publish_odom_base)
            else None
        )
        self._packed_odometry = PackedOdometry(self.odom_frame, self.base_frame)
        self._packed_pose = PackedPose(self.map_frame)
        edges = {}
        if frames.publish_map_odom:
            edges["T_map_odom"] = (self.map_frame, self.odom_frame)
        if frames.publish_odom_base:
            edges["T_odom_base"] = (self.odom_frame, self.base_frame)
        self._edges = list(edges)  # their names in a Motion
        self._packed_transforms = PackedTransforms(list(edges.values()))
        self._way = ThinnedPath(config.output.path_length, self.map_frame)
        self._clouds: dict[
            Topic, PointCloud2
        ] = {}  # the newest of each topic, whose memory the next one reuses
        self._map_published, self._map_took = 0.0, 0.0  # monotonic; s
        self._path_due, self._path_withheld = 0.0, False  # monotonic; whether a newer one waits
        self._pictured = (-1, 0)  # segment and stamp of the newest pictures

    def close(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    @property
    def other_publishers(self) -> int:
        """Number of others who publish this odometry."""
        return max(0, self._node.count_publishers(self._odometry.topic_name) - 1)  # ours may not be known yet

    @property
    def odometry_topic(self) -> str:
        return self._odometry.topic_name

    def settings_changed(self, config: NodeConfig) -> None:
        self._config = config

    def forget_path(self) -> None:
        self._way = ThinnedPath(self._config.output.path_length, self.map_frame)
        self._path_due, self._path_withheld, self._pictured = 0.0, False, (-1, 0)
        self._map_took = 0.0  # a new map is shown soon

    def motion(self, motion: Motion) -> None:
        if self._tf is not None and _heard(self._tf):  # first: subscribers of the odometry may look it up
            poses = [getattr(motion, edge) for edge in self._edges]
            self.send(self._tf, self._packed_transforms.of(motion.stamp, poses))
            self._aged("tf", motion.stamp)
        if _heard(self._odometry):
            self.send(self._odometry, self._packed_odometry.of(motion))
            self._aged("odometry", motion.stamp)

    def pose(self, stamp: int, T_map_base: np.ndarray, covariance: np.ndarray) -> None:
        self._way.add(stamp, T_map_base)
        if _heard(self._pose):
            self.send(self._pose, self._packed_pose.of(stamp, T_map_base, covariance))
            self._aged("pose", stamp)

    def path(self, at_once: bool = False) -> None:
        """Publish the path. A long one is withheld for a while; see ``path_due``."""
        if not len(self._way) or not _heard(self._path):
            return
        self._path_withheld = time.monotonic() < self._path_due and not at_once
        if self._path_withheld:
            return
        started = time.thread_time()
        self.send(self._path, self._way.message())
        self._aged("path", self._way.newest)
        took = time.thread_time() - started
        self._path_due = time.monotonic() + took / PATH_SHARE if took > PATH_CHEAP else 0.0

    @property
    def path_due(self) -> bool:
        """Whether a withheld path is due now."""
        return self._path_withheld and time.monotonic() >= self._path_due

    @property
    def path_stamp(self) -> int:
        """Stamp of the pose that the path would end with."""
        return self._way.newest

    @property
    def points_wanted(self) -> bool:
        return _heard(self._points)

    def points(self, cloud: Cloud, T_map_world: np.ndarray, stamp: int) -> None:
        self.send(self._points, self._cloud(interface.POINTS, cloud, T_map_world, stamp))
        self._aged("points", stamp)

    def map_due(self) -> bool:
        period = max(self._config.output.map_period, self._map_took / MAP_SHARE)
        return time.monotonic() - self._map_published >= period and _heard(self._map_points)

    def map_points(self, map_cloud: Callable[[], Cloud], T_map_world: np.ndarray, stamp: int) -> None:
        self._map_published = time.monotonic()
        self.send(self._map_points, self._cloud(interface.MAP_POINTS, map_cloud(), T_map_world, stamp))
        self._aged("map_points", stamp)
        self._map_took = time.monotonic() - self._map_published

    def pictures(
        self,
        update: Update,
        optical_frame: str,
        camera: Camera | None,
        T_base_camera: np.ndarray | None = None,
    ) -> None:
        """Publish depth and confidence of the newest frame, as the camera with this mounting would see them.

        camera: that of the network's images.
        """
        wanted = _heard(self._depth) or _heard(self._depth_info)
        if not wanted and not _heard(self._confidence):
            return
        turn = turn_between(camera, T_base_camera)
        newest = update.frames[-1]
        if newest.segment == self._pictured[0] and newest.stamp < self._pictured[1]:
            return  # a chunk that was lost has shown newer ones as previews
        self._pictured = newest.segment, newest.stamp
        head = header(newest.stamp, optical_frame)
        if wanted:
            local = update.local_points[-1].float().cpu().numpy()
            self.send(self._depth, depth_message(turned_back(local[..., 2], camera, turn, np.nan), head))
            seen_by = as_taken(camera, turn) if camera else fitted_camera(local)
            if seen_by is not None:
                self.send(self._depth_info, camera_info_message(head, seen_by))
            self._aged("depth", newest.stamp)
        if _heard(self._confidence):
            probability = update.confidence[-1, ..., 0].float().sigmoid().cpu().numpy()
            self.send(self._confidence, confidence_message(turned_back(probability, camera, turn, 0.0), head))
            self._aged("confidence", newest.stamp)

    def taken(self, stamp: int) -> None:
        """A player that loses no image sends the next ones when it hears this."""
        if _heard(self._taken):
            self.send(self._taken, header(stamp, "").stamp)

    def _cloud(self, topic: Topic, cloud: Cloud, T_map_world: np.ndarray, stamp: int) -> PointCloud2:
        cloud = placed(cloud, T_map_world).cpu()
        message = self._clouds.setdefault(topic, PointCloud2())
        return cloud_message(
            cloud.points.numpy(),
            cloud.colours.numpy(),
            cloud.confidence.numpy(),
            header(stamp, self.map_frame),
            message,
        )

    def send(self, publisher: Publisher, message: Any) -> None:
        """Publish a message. A signal may end ROS at any moment; from then on only the files are written."""
        try:
            publisher.publish(message)
        except RuntimeError:
            if self._node.context.ok():
                raise

    def _publisher(self, kind: type, topic: Topic) -> Publisher:
        name = topic.name if topic.name.startswith("/") else self._prefix + topic.name
        # Each event that is waited for costs time whenever the executor wakes up. A subscriber that asks for
        # more than we offer reports that itself.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        publisher: Publisher = self._node.create_publisher(
            kind, name, qos_profile(topic), event_callbacks=quiet
        )
        self._publishers.append(publisher)
        return publisher


class ThinnedPath:
    """At most ``most`` poses of a path of any length, evenly spread, always including the newest one.

    Messages are made on request.
    """

    def __init__(self, most: int, frame: str) -> None:
        self._most = most
        self._frame = frame
        self._poses: list[tuple[int, np.ndarray]] = []  # stamps and T_map_base, without the newest
        self._messages: list[PoseStamped] = []  # of the first ones
        self._tip: tuple[int, np.ndarray] | None = None  # the newest
        self._every = 1
        self._count = 0

    def __len__(self) -> int:
        return len(self._poses) + (self._tip is not None)

    @property
    def newest(self) -> int:
        """Stamp of the last pose."""
        assert self._tip is not None
        return self._tip[0]

    def add(self, stamp: int, T_map_base: np.ndarray) -> None:
        if self._tip is not None:
            self._keep(self._tip)
        self._tip = stamp, T_map_base

    def _keep(self, pose: tuple[int, np.ndarray]) -> None:
        self._count += 1
        if (self._count - 1) % self._every:
            return
        if len(self._poses) >= self._most - 1:
            self._poses, self._messages = self._poses[::2], self._messages[::2]
            self._every *= 2
            if (self._count - 1) % self._every:
                return
        self._poses.append(pose)

    def message(self) -> Path:
        for pose in self._poses[len(self._messages) :]:
            self._messages.append(self._posed(*pose))
        assert self._tip is not None
        tip = self._posed(*self._tip)
        return Path(header=tip.header, poses=[*self._messages, tip])

    def _posed(self, stamp: int, pose: np.ndarray) -> PoseStamped:
        message = PoseStamped(header=header(stamp, self._frame))
        fill_pose(message.pose, pose)
        return message


def placed(cloud: Cloud, T_map_world: np.ndarray) -> Cloud:
    """The cloud in the axes of the map."""
    turn = torch.from_numpy(T_map_world).to(cloud.points)
    points = torch.addmm(turn[:3, 3:], turn[:3, :3], cloud.points.T).T  # in columns, because rows take longer
    return Cloud(points, cloud.colours, cloud.confidence)


def _heard(publisher: Publisher) -> bool:
    try:
        return publisher.get_subscription_count() > 0
    except RuntimeError:  # the process ends: ROS is gone, and the last poses go only to the journal
        return False
