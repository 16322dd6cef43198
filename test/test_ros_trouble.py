"""The node where things are not as they should be, each time in a process of its own."""

from __future__ import annotations

import array
import io
import itertools
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from node_rig import (  # noqa: E402
    SECOND,
    STREAM,
    Tester,
    end,
    node_process,
    pictures,
    pose_of,
    said_by,
    stamp_of,
    write_checkpoint,
)
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402

from loger_ros.config import StreamConfig  # noqa: E402
from loger_ros.geometry import mount  # noqa: E402
from loger_ros.mapping.journal import read_journal  # noqa: E402
from loger_ros.model import load_model  # noqa: E402
from loger_ros.ros import interface  # noqa: E402
from loger_ros.ros.images import LAYOUTS, rgb_of  # noqa: E402
from loger_ros.ros.messages import camera_info_message, header, image_message  # noqa: E402
from loger_ros.ros.odometry import Odometer  # noqa: E402
from loger_ros.stream import Reconstructor  # noqa: E402
from loger_ros.stream.lens import scaled  # noqa: E402
from loger_ros.types import Camera, Frame  # noqa: E402

TEN = pictures(10)


@pytest.fixture
def tester(ros_domain: int) -> Iterator[Tester]:
    tester = Tester(ros_domain)
    tester.hear(interface.DIAGNOSTICS)
    yield tester
    tester.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    return write_checkpoint(path, carried={"pitch": [0, 10], "height": [0.2, 1.2]})


def usual(checkpoint: Path, folder: Path) -> dict[str, Any]:
    return {
        "model__checkpoint": checkpoint,
        "output__folder": folder,
        "frames__extrinsic": "parameters",
        "input__undistort": False,
    }


def test_a_kill_loses_no_final_pose_and_the_next_run_continues(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    settings = {
        **usual(checkpoint, tmp_path),
        "frames__camera_rpy": [0.0, 0.3, 0.0],
        "frames__publish_odom_base": False,
        "frames__publish_map_odom": False,
        "input__reliable": True,
    }
    poses, transforms = tester.hear(interface.POSE), tester.hear(interface.TF)
    with node_process(ros_environment, **settings) as process:
        tester.process = process
        stamps = tester.send_images(TEN, SECOND)
        tester.wait(lambda: len(poses) == 8)
        tester.wait(lambda: "differently than in training" in tester.health("stream").get("message", ""))
        assert "it is 17.2 degrees down" in tester.health("stream")["message"]
        assert said_by(process).count("it is 17.2 degrees down") == 1, "nobody may look at the diagnostics"
        tester.process = None
        killed = image_readers(tester)
        process.kill()
        process.wait()
    journal = tmp_path / "journal.tum"
    assert list(read_journal(journal).stamps) == stamps[:8]
    with journal.open("a") as file:
        file.write("99.5 0 0")  # as if the kill had come in the middle of a line
    with node_process(ros_environment, **settings, stream__resolution="40x24") as process:
        tester.process = process
        tester.wait(lambda: interface.LISTENING in said_by(process))
        assert "stream.resolution is 40x24, but the checkpoint was trained with 32x24" in said_by(process)
        # DDS believes in the one that was killed for a while: no count tells of the new one.
        tester.wait(lambda: image_readers(tester) - killed)
        more = tester.send_images(TEN, 100 * SECOND)
        tester.wait(lambda: len(poses) == 16)
        tester.process = None
        end(process, signal.SIGTERM)
    both = read_journal(journal)
    assert list(both.stamps) == [*stamps[:8], *more]  # a peaceful end writes the provisional ones too
    assert both.segments == (*([0] * 8), *([1] * 10))
    assert not transforms, "both edges of TF were switched off"


def image_readers(tester: Tester) -> set[tuple[int, ...]]:
    return {tuple(info.endpoint_gid) for info in tester.node.get_subscriptions_info_by_topic("/image")}


def test_two_cameras_compressed_in_simulated_time(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    settings = {
        **usual(checkpoint, tmp_path),
        "use_sim_time": True,
        "input__cameras": ["front", "rear"],
        "input__image_transport": "compressed",
        "input__reliable": True,
        "input__camera_info_timeout": 60.0,
        "frames__camera_xyz": [0.0] * 6,
        "frames__camera_rpy": [0.0, 0.3, 0.0, 0.0, 0.1, 3.0],
        "input__undistort": True,
    }
    odometry = {name: tester.hear(interface.ODOMETRY, prefix=f"{name}/") for name in ("front", "rear")}
    transforms = tester.hear(interface.TF)
    poses = tester.hear(interface.POSE, prefix="front/")
    with node_process(ros_environment, **settings) as process:
        tester.process = process
        tester.wait(lambda: "nobody publishes /clock" in tester.health("node").get("message", ""))
        clock = tester.node.create_publisher(Clock, "/clock", 1)
        infos = [tester.node.create_publisher(CameraInfo, f"{n}/camera_info", 5) for n in odometry]
        images = [tester.image_publisher(f"{n}/image/compressed", CompressedImage) for n in odometry]
        tester.wait(lambda: all(p.get_subscription_count() for p in (clock, *infos)))
        now = Clock()
        now.clock.sec = 50
        tester.wait(lambda: clock.publish(now) or tester.health("node")["message"] == "active")
        lens = Camera(64, 48, np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), (-0.2, 0.05, 0, 0, 0))
        for info in infos:
            send_info(tester, info, camera_info_message(header(50 * SECOND, "camera"), lens))
        for number, picture in enumerate(TEN[:6]):
            for publisher, shown in zip(images, (picture, TEN[9 - number]), strict=True):
                publisher.publish(png(shown, (50 + number) * SECOND))
            tester.rest(0.05)
        tester.wait(lambda: all(len(kept) == 6 for kept in odometry.values()))
        tester.wait(lambda: tester.health("front").get("age_odometry_s_p99") is not None)
        assert -6.0 < float(tester.health("front")["age_odometry_s_p99"]) <= 0.0  # by the simulated clock
        for number in (6, 7):  # the camera changes to half its size
            images[0].publish(png(TEN[number][::2, ::2], (50 + number) * SECOND))
        tester.wait(lambda: len(odometry["front"]) == 8)
        tester.wait(lambda: tester.health("front").get("event_size_changed"))
        assert "event_camera_info_unusable" not in tester.health("front")
        assert "event_frame_failed" not in tester.health("front")
        tester.wait(infos[0].get_subscription_count)  # for images of another size it is heard again
        send_info(
            tester, infos[0], camera_info_message(header(57 * SECOND, "camera"), scaled(lens, (32, 24)))
        )
        diagnostics = tester.heard["/diagnostics"]
        for now.clock.sec in (57, 20):  # the bag begins again
            tester.wait(lambda: clock.publish(now) or diagnostics[-1].header.stamp.sec == now.clock.sec)
        images[0].publish(png(TEN[8][::2, ::2], 20 * SECOND))
        images[0].publish(png(TEN[9][::2, ::2], 21 * SECOND))
        tester.wait(lambda: len(odometry["front"]) == 10)
        tester.wait(lambda: tester.health("front").get("event_clock_jumped") == "1")
        assert "event_camera_changed" not in tester.health("front"), "it is the same lens, scaled"
        assert tester.transition("shutdown")
        assert tester.state() == "finalized"
        tester.process = None
        end(process)
    front, rear = odometry["front"], odometry["rear"]
    assert {(m.header.frame_id, m.child_frame_id) for m in front} == {("odom", "base_link")}
    assert {(m.header.frame_id, m.child_frame_id) for m in rear} == {("rear/odom", "base_link")}
    assert [stamp_of(message) for message in rear] == [(50 + i) * SECOND for i in range(6)]
    for number, kept in enumerate((front, rear)):
        rpy = settings["frames__camera_rpy"][3 * number : 3 * number + 3]
        shown = TEN[::-1][:6] if number else TEN[:6]
        wanted = odometry_of(checkpoint, lens, mount((0, 0, 0), rpy), shown, [stamp_of(m) for m in kept[:6]])
        assert np.abs([pose_of(message.pose.pose) for message in kept[:6]] - wanted).max() < 1e-6
    assert 57 * SECOND not in [stamp_of(message) for message in poses]  # final after the clock had left it
    parents = {(e.header.frame_id, e.child_frame_id) for message in transforms for e in message.transforms}
    assert parents == {("map", "odom"), ("odom", "base_link")}  # one tree, moved by the first camera
    for name, count in (("front", 10), ("rear", 6)):
        assert len(read_journal(tmp_path / name / "journal.tum")) == count


def send_info(tester: Tester, publisher: Any, message: CameraInfo) -> None:
    """Until the node has it and stops listening: best-effort, it may miss the first ones."""
    tester.wait(lambda: not publisher.get_subscription_count() or publisher.publish(message))


def png(picture: np.ndarray, stamp: int) -> CompressedImage:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "PNG")
    message = CompressedImage(header=header(stamp, "camera"), format="png")
    message.data = array.array("B", file.getvalue())
    return message


def odometry_of(
    checkpoint: Path,
    lens: Camera | None,
    T_base_camera: np.ndarray,
    images: list[np.ndarray],
    stamps: list[int],
    motion: str = "free",
) -> np.ndarray:
    """What a bare Reconstructor and the odometer make of them."""
    recon = Reconstructor.from_config(
        load_model(checkpoint), StreamConfig(**STREAM, motion=motion), camera=lens, keep_results=False
    )
    odometer, poses = Odometer(T_base_camera), []
    for stamp, image in zip(stamps, images, strict=True):
        for update in recon.push(Frame(stamp, image)):
            poses += [motion.T_odom_base for motion in odometer.follow(update)]
    return np.array(poses)


def test_images_of_every_encoding_arrive_as_what_they_show(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    """What they show is known by the tests of images; here it is the way through DDS and the node."""
    settings = {
        **usual(checkpoint, tmp_path),
        "input__reliable": True,
    }
    sent = []
    for number, (encoding, layout) in enumerate([*LAYOUTS.items(), *LAYOUTS.items()]):
        step = 64 * layout.channels * layout.bits // 8 + number % 3  # rows with padding
        pixels = np.random.default_rng(number).integers(0, 256, 48 * step, dtype=np.uint8)
        sent.append(Image(header=header((1 + number) * SECOND // 10, "camera"), height=48, width=64))
        sent[-1].encoding, sent[-1].step, sent[-1].is_bigendian = encoding, step, number % 2
        sent[-1].data = array.array("B", pixels.tobytes())
    odometry = tester.hear(interface.ODOMETRY)
    with node_process(ros_environment, **settings) as process:
        tester.process = process
        publisher = tester.image_publisher()
        for first in range(0, len(sent), 8):  # the node's reader holds 10
            for message in sent[first : first + 8]:
                publisher.publish(message)
            tester.wait(lambda first=first: len(odometry) == len(sent[: first + 8]))
        tester.process = None
        end(process)
    shown = [rgb_of(message, 64 * 48) for message in sent]
    said = [pose_of(message.pose.pose) for message in odometry]
    stamps, straight = [stamp_of(message) for message in sent], mount((0, 0, 0), (0, 0, 0))
    assert np.abs(said - odometry_of(checkpoint, None, straight, shown, stamps)).max() < 1e-6
    swapped = [image[..., ::-1] if number == 2 else image for number, image in enumerate(shown)]
    assert np.abs(said - odometry_of(checkpoint, None, straight, swapped, stamps)).max() > 1e-4


def test_a_best_effort_camera_is_heard_unless_more_is_asked_for(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    settings = usual(checkpoint, tmp_path)
    odometry = tester.hear(interface.ODOMETRY)
    stamps = itertools.count(SECOND, SECOND // 10)
    with node_process(ros_environment, **settings) as process:
        tester.process = process
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        publisher = tester.node.create_publisher(Image, "image", qos)
        tester.wait(lambda: publisher.publish(image_of(TEN[0], next(stamps))) or odometry)
        tester.process = None
        end(process)


def test_on_wheels_it_is_told_where_the_camera_sits(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    xyz, rpy = [0.3, 0.1, 0.4], [0.0, 0.1, 0.2]
    settings = {
        **usual(checkpoint, tmp_path),
        "frames__camera_xyz": xyz,
        "frames__camera_rpy": rpy,
        "input__reliable": True,
        "input__camera_info_timeout": 60.0,
        "stream__motion": "wheels",
        "input__undistort": True,
    }
    lens = Camera(64, 48, np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]))
    odometry = tester.hear(interface.ODOMETRY)
    with node_process(ros_environment, **settings) as process:
        tester.process = process
        info = tester.node.create_publisher(CameraInfo, "camera_info", 5)
        tester.wait(info.get_subscription_count)
        send_info(tester, info, camera_info_message(header(SECOND, "camera"), lens))
        stamps = tester.send_images(TEN, SECOND)
        tester.wait(lambda: len(odometry) == 10)
        assert "event_mounting_unknown" not in tester.health()
        tester.wait(lambda: "event_unit_assumed" in tester.health())
        assert said_by(process).count("the camera is 0.4 m above the ground") == 1
        tester.send_mount(np.eye(4), base="base_footprint", camera="base_link")
        tester.wait(lambda: "set frames.base to base_footprint" in tester.health().get("message", ""))
        tester.process = None
        end(process)
    placed = mount(tuple(xyz), tuple(rpy))
    said = [pose_of(message.pose.pose) for message in odometry]
    on_wheels, free = (
        odometry_of(checkpoint, replace(lens, T_base_camera=placed), placed, TEN, stamps, motion=motion)
        for motion in ("wheels", "free")
    )
    assert np.abs(said - on_wheels).max() < 1e-6
    assert np.abs(on_wheels - free).max() > 1e-3


def test_a_camera_that_is_silent_unheard_or_mistaken_is_told_apart(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    settings = {
        **usual(checkpoint, tmp_path),
        "output__journal": '""',
        "input__reliable": True,
        "stream__unit": 1.0,
        "health__image_timeout": 0.5,
        "frames__publish_map_odom": False,
        "queue__capacity": 1,
    }

    def health_says(*words: str) -> None:
        tester.wait(lambda: all(word in tester.health().get("message", "") for word in words))

    with node_process(ros_environment, **settings) as process:
        tester.process = process
        health_says("nobody publishes /image", "no camera driver")
        tester.wait(lambda: "at the origin of base_link" in tester.health("node").get("message", ""))
        other = tester.node.create_publisher(Image, "cam0/image_raw", 1)
        health_says("topics of that type: /cam0/image_raw")
        tester.node.destroy_publisher(other)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        weak = tester.node.create_publisher(Image, "image", qos)
        health_says("/tester publishes /image best-effort", "input.reliable to false")
        tester.wait(lambda: "event_incompatible_qos" in tester.health())
        tester.node.destroy_publisher(weak)
        wrong = tester.node.create_publisher(CompressedImage, "image", 1)
        health_says("carries sensor_msgs/msg/CompressedImage", "input.image_transport")
        tester.node.destroy_publisher(wrong)
        beside = tester.node.create_publisher(CompressedImage, "image/compressed", 1)
        health_says("/image/compressed is published, but not /image: set input.image_transport to compressed")
        tester.node.destroy_publisher(beside)
        tester.image_publisher()
        health_says("a matching QoS, but nothing arrives")
        transforms = tester.hear(interface.TF)
        tester.wait(lambda: tester.node.count_subscribers("/tf"))
        tester.send_images(TEN[:2], SECOND)
        tester.wait(lambda: tester.health().get("event_images_again"))
        strange = Image(header=header(2 * SECOND, "camera"), height=1, width=1, encoding="32FC1", step=4)
        strange.data = array.array("B", bytes(4))
        tester.image_publisher().publish(strange)
        tester.wait(lambda: tester.health().get("dropped_not_readable") == "1")
        health_says("cv_bridge")
        for stamp in range(3, 203):  # all at once
            tester.image_publisher().publish(image_of(TEN[stamp % 10], stamp * SECOND))
        tester.wait(lambda: "dropped_queue_full" in tester.health())
        tester.wait(lambda: tester.health()["images_per_second"] == "0.0")
        health_says("no image for", "the camera sends no images")
        health = tester.health()
        lost = int(health.get("dropped_lost_on_the_way", 0))  # DDS says so; they were never received
        assert accounted(health) == int(health["images_received"]) + lost > 2
        answer = tester.trigger("save_trajectory")
        assert not answer.success
        assert "output.journal" in answer.message
        said = {(e.header.frame_id, e.child_frame_id) for message in transforms for e in message.transforms}
        assert said == {("odom", "base_link")}
        tester.process = None
        said = end(process)
    assert "no_images: no image for" in said
    assert not list(tmp_path.glob("**/*.tum"))


def image_of(picture: np.ndarray, stamp: int) -> Image:
    return image_message(header(stamp, "camera"), picture, "rgb8")


def accounted(health: dict[str, str]) -> int:
    """Images that were processed or dropped for a cause that is told."""
    dropped = sum(int(value) for name, value in health.items() if name.startswith("dropped_"))
    return int(health["frames_processed"]) + dropped


def test_who_misspelt_the_topic_is_told_that_the_camera_publishes_the_usual_one(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    settings = {**usual(checkpoint, tmp_path), "health__image_timeout": 0.5}
    tester.node.create_publisher(Image, "image", 1)
    with node_process(ros_environment, "-r", "image:=/cam/imag_raw", **settings) as process:
        tester.process = process
        told = "nobody publishes /cam/imag_raw; topics of that type: /image"
        tester.wait(lambda: told in tester.health().get("message", ""))
        tester.process = None
        end(process)


def test_a_resolution_that_does_not_fit_the_network_is_told_when_it_is_configured(
    ros_environment: dict[str, str], tester: Tester, checkpoint: Path, tmp_path: Path
) -> None:
    settings = {"model__checkpoint": checkpoint, "output__folder": tmp_path, "chunk_size": 4, "map": "hall"}
    with node_process(ros_environment, **settings, stream__resolution="33x24") as process:
        tester.process = process
        tester.wait(lambda: "multiples of" in tester.health("node").get("message", ""))
        assert tester.state() == "unconfigured"
        said = said_by(process)
        assert "the parameter chunk_size has no effect here; did you mean stream.chunk_size?" in said
        assert "the parameter map has no effect here" in said
        tester.process = None
        end(process)


def test_what_stood_in_the_way_of_configuring_leaves_nothing_behind(
    tester: Tester, ros_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    (tmp_path / "away").symlink_to("/tmp")
    settings = {"output__folder": tmp_path, "output__journal": "away/outside.tum", "autostart": False}
    with node_process(ros_environment, model__checkpoint=broken, **settings) as process:
        tester.process = process
        for name, cure, reason in (
            ("model.checkpoint", str(checkpoint), "broken.safetensors"),
            ("output.journal", "journal.tum", "a link there leads out"),
        ):
            assert not tester.transition("configure")
            tester.wait(lambda reason=reason: reason in tester.health("node").get("message", ""))
            assert tester.state() == "unconfigured"
            assert not tester.set(name, cure)
        assert tester.transition("configure")
        tester.wait(lambda: tester.node.count_publishers("odometry"))
        tester.rest(1.0)
        tester.wait(lambda: tester.node.count_publishers("odometry") == 1)
        tester.process = None
        end(process)


def test_it_waits_for_the_lifecycle_and_starts_where_home_cannot_be_written(
    tester: Tester, ros_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    del ros_environment["ROS_LOG_DIR"]
    ros_environment |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    with node_process(ros_environment, autostart=False) as process:
        tester.process = process
        assert tester.state() == "unconfigured"
        tester.wait(lambda: tester.health("node").get("state") == "unconfigured")
        assert "is not configured" in tester.trigger("reset").message
        tester.process = None
        end(process, signal.SIGTERM)
        assert "ROS logs go to" in said_by(process)
    assert list((tmp_path / "ros_log").iterdir())
