"""The synthetic camera seen from another process, over real DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from loger_ros.ros.synthetic.settings import Settings, make_sequence  # noqa: E402

PATIENCE = 120.0  # seconds; the machines of tests are slow and shared


class Listener:
    """Keeps everything the camera publishes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=int(environment["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.messages: dict[str, list] = {}

    def hear(self, topic: str, kind: type, qos: QoSProfile = qos_profile_sensor_data) -> None:
        kept = self.messages.setdefault(topic, [])
        self.node.create_subscription(kind, topic, kept.append, qos)

    def until(self, done: Callable[[], bool], process: subprocess.Popen) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert process.poll() is None, f"the camera ended with {process.returncode}"
            assert time.monotonic() < deadline, {topic: len(kept) for topic, kept in self.messages.items()}
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@contextmanager
def camera(environment: dict[str, str], **parameters: object) -> Iterator[tuple[subprocess.Popen, Listener]]:
    listener = Listener(environment)
    given = {"frames": 40, "width": 64, "height": 48, "rate": 20.0, "effects": "none", **parameters}
    words = [word for name, value in given.items() for word in ("-p", f"{name}:={_yaml(value)}")]
    command = [sys.executable, "-m", "loger_ros.ros.synthetic.camera", "--ros-args", *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process, listener
    finally:
        listener.close()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture(autouse=True)
def same_network(ros_domain: int) -> None:
    """The listener hears what the camera sends."""


def stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_it_plays_the_sequence_with_the_truth_beside_it(ros_environment: dict[str, str]) -> None:
    with camera(ros_environment, publish_depth=True, wheel_odometry=True, seed=5) as (process, listener):
        listener.hear("image", Image)
        listener.hear("camera_info", CameraInfo)
        listener.hear("depth/image", Image)
        listener.hear("ground_truth/odometry", Odometry)
        listener.hear("wheel_odometry", Odometry)
        transforms = _hear_transforms(listener)
        heard = listener.messages
        told = ("image", "camera_info", "depth/image", "ground_truth/odometry")
        listener.until(
            lambda: len(set.intersection(*({*map(stamp, heard[topic])} for topic in told))) >= 8, process
        )
        listener.until(lambda: heard["wheel_odometry"], process)
        if transforms:
            listener.until(lambda: len(heard["/tf_static"]) > 0, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    sequence = make_sequence(Settings(frames=40, width=64, height=48, rate=20.0, effects="none", seed=5))
    clip = sequence.render()
    truth = {stamp(message): message for message in heard["ground_truth/odometry"]}
    infos = {stamp(message): message for message in heard["camera_info"]}
    depths = {stamp(message): message for message in heard["depth/image"]}
    stamps = [stamp(message) for message in heard["image"]]
    assert stamps == sorted(set(stamps))
    compared = 0
    for image in heard["image"]:
        odometry, info, depth = (kept.get(stamp(image)) for kept in (truth, infos, depths))
        if odometry is None or info is None or depth is None:
            continue  # best effort at the start
        position = odometry.pose.pose.position
        away = np.linalg.norm(sequence.T_world_base[:, :3, 3] - (position.x, position.y, position.z), axis=1)
        picture = np.frombuffer(image.data, np.uint8).reshape(48, 64, 3)
        nearest = np.flatnonzero(away < 1e-9)
        assert any(np.array_equal(picture, clip.rgb[number]) for number in nearest)
        metres = np.frombuffer(depth.data, np.float32).reshape(48, 64)
        assert any(np.array_equal(metres, clip.depth[number]) for number in nearest)
        assert (image.encoding, image.header.frame_id) == ("rgb8", "camera_optical_frame")
        assert np.allclose(np.reshape(info.k, (3, 3)), sequence.camera.matrix())
        assert (odometry.header.frame_id, odometry.child_frame_id) == ("world", "base_link_truth")
        compared += 1
    assert compared >= 8
    if transforms:
        static = heard["/tf_static"][0].transforms[0]
        assert (static.header.frame_id, static.child_frame_id) == ("base_link", "camera_optical_frame")
        assert static.transform.translation.z == pytest.approx(sequence.mount.height)
    wheels = heard["wheel_odometry"]
    assert wheels[0].child_frame_id == "base_link"


def _hear_transforms(listener: Listener) -> bool:
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return False
    listener.hear("/tf", TFMessage)
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    listener.hear("/tf_static", TFMessage, latched)
    return True


def test_it_is_as_nasty_as_it_is_told(ros_environment: dict[str, str]) -> None:
    nasty = {"drop": 0.2, "duplicate": 0.2, "late": 0.2, "late_by": 0.2, "resize_every": 0.5}
    with camera(ros_environment, **nasty) as (process, listener):
        listener.hear("image", Image)
        listener.hear("ground_truth/odometry", Odometry)
        images, truth = (listener.messages[topic] for topic in ("image", "ground_truth/odometry"))

        def met() -> bool:
            stamps = [stamp(message) for message in images]
            dropped = {*map(stamp, truth)} - {*stamps}
            doubled, late = len(set(stamps)) < len(stamps), (np.diff(stamps) < 0).any()
            sizes = {(message.width, message.height) for message in images}
            return len(dropped) > 3 and doubled and late and sizes == {(64, 48), (32, 24)}

        listener.until(met, process)
    assert all(len(message.data) == 3 * message.width * message.height for message in images)


def test_it_ends_with_the_sequence_when_told_to(ros_environment: dict[str, str]) -> None:
    with camera(ros_environment, at_end="stop", frames=15, plac="street") as (process, _):
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "ended after 15 frames" in said
    assert "the parameter plac has no effect here; did you mean place?" in said


def test_it_waits_for_as_many_listeners_as_it_is_told(ros_environment: dict[str, str]) -> None:
    with camera(ros_environment, wait_for=1) as (process, listener):
        listener.hear("ground_truth/odometry", Odometry)
        truth = listener.messages["ground_truth/odometry"]
        listener.until(lambda: listener.node.count_publishers("image") > 0, process)
        ready = time.monotonic() + 1.0  # it has frames in hand long before
        listener.until(lambda: time.monotonic() > ready, process)
        assert not truth
        listener.hear("image", Image)
        listener.until(lambda: truth, process)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"place": "moon"}, "place must be one of"),
        ({"motion": "handheld", "wheel_odometry": True}, "wheel_odometry needs a robot"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"width": "wide"}, "width"),
    ],
)
def test_wrong_parameters_end_it_with_one_line(
    parameters: dict, reason: str, ros_environment: dict[str, str]
) -> None:
    with camera(ros_environment, **parameters) as (process, _):
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert reason in said
    assert "Traceback" not in said
