"""A camera that does not exist: plays a procedural sequence as a driver would, with the truth beside it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from loger_ros.geometry import difference
from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.ros.process import running_ros
from loger_ros.ros.synthetic_messages import TransformPublisher, odometry_message, qos
from loger_ros.types import Camera
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.named_sets import named_sequence
from loger_ros.world.nuisance import Fate, Nuisances, Troublemaker
from loger_ros.world.playback import AT_END, Playback, Shot
from loger_ros.world.sequences import (
    BASE_FRAME,
    CAMERA_FRAME,
    MOTIONS,
    PLACES,
    TRUTH_FRAME,
    WORLD_FRAME,
    Sequence,
    SequenceSpec,
)
from loger_ros.world.ways.wheels import WheelOdometry

NODE = "synthetic_camera"
WHEEL_FRAME = "wheel_odom"
SETTLING = 0.5  # s between the listeners' arrival and the first image, where they are waited for
MOST_WAITING = 64  # late images held back at a time


@dataclass(frozen=True)
class Settings:
    """The parameters. 0 (for pitch: a negative number) means: drawn from the seed."""

    named_set: str = ""
    place: str = "rooms"
    motion: str = "robot"
    frames: int = 500
    closed: bool = False
    at_end: str = "bounce"
    split: str = "test"
    seed: int = 0
    index: int = 0
    width: int = 320
    height: int = 240
    hfov: float = 0.0
    camera_height: float = 0.0
    camera_pitch: float = -1.0
    movers: int = 0
    effects: str = "mild"
    rate: float = 10.0
    keep: bool = False
    device: str = "cpu"
    threads: int = 1
    best_effort: bool = False
    wait_for: int = 0
    publish_depth: bool = False
    publish_tf: bool = True
    wheel_odometry: bool = False
    wheel_noise: float = 0.02


ABOUT = {
    "named_set": "a named test set, such as robot_rooms: plays its sequence `index`, ignores place to seed",
    "place": f"one of {', '.join(PLACES)}",
    "motion": f"one of {', '.join(MOTIONS)}",
    "frames": "length of the sequence",
    "closed": "the sequence ends where it began",
    "at_end": f"one of {', '.join(AT_END)}: play backwards, play again (closed ones), or shut down",
    "split": "train or test textures",
    "seed": "of place, way and effects",
    "index": "of the sequence within the seed or the named set",
    "width": "pixels",
    "height": "pixels",
    "hfov": "degrees; 0: drawn, 60 to 100",
    "camera_height": "metres above the ground, of a robot's camera; 0: drawn, 0.2 to 1.2",
    "camera_pitch": "degrees down, of a robot's camera; negative: drawn, 0 to 20",
    "movers": "walkers to place, where there is room",
    "effects": f"faults of the camera: {', '.join(PRESETS)}",
    "rate": "images per second",
    "keep": "render every frame once, all before the first image, for rates that rendering does not reach",
    "device": "that renders: cpu or cuda",
    "threads": "of the CPU renderer",
    "best_effort": "publish images best-effort; reliable otherwise, which suits both kinds of subscribers",
    "wait_for": "begin when so many subscribers listen to the images",
    "publish_depth": "true depth on depth/image, 32FC1 metres",
    "publish_tf": f"/tf {WORLD_FRAME} → {TRUTH_FRAME}, and /tf_static {BASE_FRAME} → {CAMERA_FRAME}",
    "wheel_odometry": "noisy wheel odometry on wheel_odometry, of a robot",
    "wheel_noise": "relative error of the wheels, per step and lasting",
    "drop": "chance that an image is not published",
    "late": "chance that an image comes `late_by` seconds late, after younger ones",
    "late_by": "seconds",
    "duplicate": "chance that an image carries the stamp of the one before",
    "pause_every": "seconds between pauses of the images; 0: none",
    "pause_for": "seconds",
    "resize_every": "seconds after which the images change between full and half size; 0: never",
    "jump_every": "seconds after which the stamps of the images jump by `jump_by`, and back; 0: never",
    "jump_by": "seconds",
}


class SyntheticCamera(Node):
    def __init__(self) -> None:
        super().__init__(NODE)
        settings = Settings(**self._declared(Settings()))
        nuisances = Nuisances(**self._declared(Nuisances()))
        _check(settings)
        self.get_logger().info("building the scene")
        self._settings = settings
        self._sequence = make_sequence(settings)
        if settings.wheel_odometry and self._sequence.mount is None:
            raise ValueError("wheel_odometry needs a robot: set motion to robot")
        self._rate = settings.rate
        self._trouble = Troublemaker(nuisances, settings.seed)
        self._images = self.create_publisher(Image, "image", qos(5, not settings.best_effort))
        self._infos = self.create_publisher(CameraInfo, "camera_info", qos(5, not settings.best_effort))
        self._truth = self.create_publisher(Odometry, "ground_truth/odometry", qos(20))
        self._depths = self.create_publisher(Image, "depth/image", qos(2)) if settings.publish_depth else None
        self._wheels = (
            self.create_publisher(Odometry, "wheel_odometry", qos(20)) if settings.wheel_odometry else None
        )
        self._wheel = WheelOdometry(settings.wheel_noise, settings.seed)
        self._tf = TransformPublisher(self) if settings.publish_tf else None
        if self._tf is not None:
            self._tf.publish_static(BASE_FRAME, CAMERA_FRAME, self._sequence.mount_transform)
        self._waiting: list[tuple[int, Image, CameraInfo]] = []  # late images and when they are due
        self._before: np.ndarray | None = None  # the base's pose in the frame before
        self._played = self._missed = 0
        self._heard_since = time.monotonic()
        self.exit_code: int | None = None  # set when there is nothing left to play
        self._playback = Playback(self._sequence, settings.at_end, device=settings.device, keep=settings.keep)
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
            return  # begin with some frames in hand
        try:
            shot = self._playback.take()
        except StopIteration:
            self._finish(0, f"the sequence has ended after {self._played} frames")
            return
        except RuntimeError as error:
            self._finish(1, str(error))
            return
        if shot is None:
            self._missed += 1
            self.get_logger().warning(
                f"rendering does not keep up with {self._rate:g} images per second ({self._missed} missed): "
                f"lower rate or width and height",
                throttle_duration_sec=5.0,
            )
            return
        if self._played == 0:
            self.get_logger().info(f"playing {len(self._sequence)} frames at {self._rate:g} per second")
        self._publish_truth(shot, now)
        fate = self._trouble.judge(self._played / self._rate, now)
        self._played += 1
        if fate.published:
            self._hand_out(shot, fate, now)

    def _is_heard(self) -> bool:
        """For some time already: the topics of one listener are connected one by one."""
        now = time.monotonic()
        if self._images.get_subscription_count() < self._settings.wait_for:
            self._heard_since = now
        return self._settings.wait_for == 0 or now - self._heard_since > SETTLING

    def _finish(self, code: int, why: str) -> None:
        (self.get_logger().error if code else self.get_logger().info)(why)
        self._timer.cancel()
        self.exit_code = code

    def _hand_out(self, shot: Shot, fate: Fate, now: int) -> None:
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


def _check(settings: Settings) -> None:
    """What no other part checks."""
    if not 0.1 <= settings.rate <= 1000:
        raise ValueError(f"rate must be 0.1 to 1000 images per second, got {settings.rate}")
    if not 0 <= settings.wheel_noise <= 1:
        raise ValueError(f"wheel_noise must be 0 to 1, got {settings.wheel_noise}")
    if settings.threads < 1:
        raise ValueError(f"threads must be at least 1, got {settings.threads}")
    torch.set_num_threads(settings.threads)
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {settings.device!r} cannot be used ({reason}): choose cpu or cuda"
        ) from error


def make_sequence(settings: Settings) -> Sequence:
    if settings.effects not in PRESETS:
        raise ValueError(f"effects must be one of {', '.join(PRESETS)}, got {settings.effects!r}")
    if settings.named_set:
        return named_sequence(settings.named_set, settings.index, settings.width, settings.height)
    spec = SequenceSpec(
        place=settings.place,
        motion=settings.motion,
        frames=settings.frames,
        split=settings.split,
        closed=settings.closed,
        width=settings.width,
        height=settings.height,
        rate=settings.rate,
        movers=settings.movers,
        effects=PRESETS[settings.effects],
    )
    if settings.hfov > 0:
        spec = replace(spec, hfov=settings.hfov)
    if settings.camera_height > 0:
        spec = replace(spec, camera_height=settings.camera_height)
    if settings.camera_pitch >= 0:
        spec = replace(spec, camera_pitch=settings.camera_pitch)
    return generate(spec, settings.seed, settings.index)


def main(args: list[str] | None = None) -> int:
    with running_ros(args):
        try:
            node = SyntheticCamera()
        except (ValueError, ParameterException) as error:  # the second: a parameter of the wrong type
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


if __name__ == "__main__":
    sys.exit(main())
