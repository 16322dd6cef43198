"""A synthetic camera: plays a procedural sequence as a driver would, and publishes the truth with it."""

from __future__ import annotations

import sys
import time
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from loger_ros.geometry import difference
from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.ros.parameters import warn_of_unknown
from loger_ros.ros.process import refuse_arguments, running_ros
from loger_ros.ros.synthetic.messages import TransformPublisher, odometry_message, qos
from loger_ros.ros.synthetic.settings import ABOUT, NODE, Settings, check, make_sequence
from loger_ros.types import CAMERA_FRAME, Camera
from loger_ros.world.nuisance import Fate, Nuisances, Troublemaker
from loger_ros.world.paths.wheels import WheelOdometry
from loger_ros.world.playback import Playback, Shot
from loger_ros.world.sequences import BASE_FRAME, TRUTH_FRAME, WORLD_FRAME

WHEEL_FRAME = "wheel_odom"
SETTLING = 0.5  # s from the listeners' arrival to the first image, if the camera waits for listeners
MOST_WAITING = 64  # late images held back at a time


class SyntheticCamera(Node):
    def __init__(self) -> None:
        super().__init__(NODE)
        settings = Settings(**self._declared(Settings()))
        nuisances = Nuisances(**self._declared(Nuisances()))
        warn_of_unknown(self, ABOUT)
        check(settings)
        self.get_logger().info("building the scene")
        self._settings = settings
        self._sequence = make_sequence(settings)
        if settings.wheel_odometry and self._sequence.mount is None:
            raise ValueError("wheel_odometry needs a robot: set motion to robot")
        self._rate = settings.rate
        self._trouble = Troublemaker(nuisances, settings.seed)
        self._images = self.create_publisher(Image, "image", qos(5, not settings.best_effort))
        self._infos = self.create_publisher(CameraInfo, "camera_info", qos(5, not settings.best_effort))
        self._truth = self.create_publisher(Odometry, "ground_truth/odometry", qos(100))
        self._depths = self.create_publisher(Image, "depth/image", qos(2)) if settings.publish_depth else None
        self._wheels = (
            self.create_publisher(Odometry, "wheel_odometry", qos(100)) if settings.wheel_odometry else None
        )
        self._wheel = WheelOdometry(settings.wheel_noise, settings.seed)
        self._tf = TransformPublisher(self) if settings.publish_tf else None
        if self._tf is not None:
            self._tf.publish_static(BASE_FRAME, CAMERA_FRAME, self._sequence.mount_transform)
        self._waiting: list[tuple[int, Image, CameraInfo]] = []  # late images and when they are due
        self._before: np.ndarray | None = None  # the base's pose in the previous frame
        self._played = self._missed = 0
        self._heard_since = time.monotonic()
        self.exit_code: int | None = None  # set when nothing is left to play
        self._playback = Playback(self._sequence, settings.at_end, device=settings.device, keep=settings.keep)
        if settings.keep:
            self.get_logger().info(f"rendering {len(self._sequence)} frames before the first is sent")
        self._timer = self.create_timer(1 / settings.rate, self._tick)

    def _declared(self, defaults: Any) -> dict[str, Any]:
        values = {}
        for entry in fields(defaults):
            about = ParameterDescriptor(description=ABOUT[entry.name], read_only=True)
            default = getattr(defaults, entry.name)
            values[entry.name] = self.declare_parameter(entry.name, default, about).value
        return values

    def destroy_node(self) -> None:
        self._playback.close()
        super().destroy_node()

    def _tick(self) -> None:
        now = self.get_clock().now().nanoseconds
        due = [entry for entry in self._waiting if entry[0] <= now]
        self._waiting = [entry for entry in self._waiting if entry[0] > now]
        for _, image, info in due:
            self._publish_image(image, info)
        if self._played == 0 and not (self._playback.full() and self._is_heard()):
            return  # start with some frames rendered ahead
        try:
            shot = self._playback.take()
        except StopIteration:
            self._finish(0, f"the sequence ended after {self._played} frames")
            return
        except RuntimeError as error:
            self._finish(1, str(error))
            return
        if shot is None:
            self._missed += 1
            self.get_logger().warning(
                f"rendering does not keep up with {self._rate:g} images per second ({self._missed} missed): "
                f"lower rate, or width and height",
                throttle_duration_sec=5.0,
            )
            return
        if self._played == 0:
            self.get_logger().info(f"playing {len(self._sequence)} frames at {self._rate:g} per second")
        self._publish_truth(shot, now)
        fate = self._trouble.judge(self._played / self._rate, now)
        self._played += 1
        if fate.published:
            self._deliver(shot, fate, now)

    def _is_heard(self) -> bool:
        """Whether enough listeners have been there for some time: their topics are connected one by one."""
        now = time.monotonic()
        if self._images.get_subscription_count() < self._settings.wait_for:
            self._heard_since = now
        return self._settings.wait_for == 0 or now - self._heard_since > SETTLING

    def _finish(self, code: int, why: str) -> None:
        (self.get_logger().error if code else self.get_logger().info)(why)
        self._timer.cancel()
        self.exit_code = code

    def _deliver(self, shot: Shot, fate: Fate, now: int) -> None:
        picture, camera = shot.image, self._sequence.camera
        if fate.half_size:
            camera = camera.resized(max(1, camera.width // 2), max(1, camera.height // 2))
            picture = cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        head = header(fate.stamp, CAMERA_FRAME)
        described = Camera(camera.width, camera.height, camera.matrix(), camera.distortion)
        image, info = image_message(head, picture, "rgb8"), camera_info_message(head, described)
        if fate.delay > 0 and len(self._waiting) < MOST_WAITING:
            self._waiting.append((now + round(fate.delay * 1e9), image, info))
        else:
            self._publish_image(image, info)
        if self._depths is not None and not fate.half_size:
            self._depths.publish(image_message(head, shot.depth, "32FC1"))

    def _publish_image(self, image: Image, info: CameraInfo) -> None:
        self._infos.publish(info)
        self._images.publish(image)

    def _publish_truth(self, shot: Shot, stamp: int) -> None:
        pose = shot.T_world_base
        step = np.zeros(6) if self._before is None else -difference(pose, self._before)
        self._before = pose
        self._truth.publish(
            odometry_message(header(stamp, WORLD_FRAME), TRUTH_FRAME, pose, step * self._rate)
        )
        if self._tf is not None:
            self._tf.publish(stamp, WORLD_FRAME, TRUTH_FRAME, pose)
        if self._wheels is not None:
            placed, noisy = self._wheel.roll(step[0], step[5])
            twist = np.array([noisy[0], 0, 0, 0, 0, noisy[1]]) * self._rate
            self._wheels.publish(odometry_message(header(stamp, WHEEL_FRAME), BASE_FRAME, placed, twist))


def run(args: list[str] | None = None) -> int:
    with running_ros(args):
        refuse_arguments(NODE, args)
        try:
            node = SyntheticCamera()
        except (ValueError, ParameterException) as error:  # ParameterException: a parameter of the wrong type
            print(f"{NODE}: {error}", file=sys.stderr)
            return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while node.exit_code is None:
                executor.spin_once(timeout_sec=0.5)
        finally:
            node.destroy_node()
        return node.exit_code
    return 0
