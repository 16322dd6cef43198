"""The node at work, from outside: one process, spoken to over DDS. Each test begins with a reset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from conftest import own_domain  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from node_rig import (  # noqa: E402
    SECOND,
    STREAM,
    Tester,
    edges,
    end,
    node_process,
    pictures,
    pose_of,
    said_by,
    stamp_of,
    write_checkpoint,
)
from rcl_interfaces.srv import DescribeParameters  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2  # noqa: E402

from loger_ros.config import CloudConfig, StreamConfig  # noqa: E402
from loger_ros.geometry import difference, exp_rotation, inverse, mount, transform  # noqa: E402
from loger_ros.mapping.cloud import cloud_of  # noqa: E402
from loger_ros.mapping.journal import read_journal  # noqa: E402
from loger_ros.mapping.point_files import read_pcd, read_ply  # noqa: E402
from loger_ros.mapping.trajectory_files import read_tum  # noqa: E402
from loger_ros.model import load_model  # noqa: E402
from loger_ros.ros import interface  # noqa: E402
from loger_ros.ros.health import AGED  # noqa: E402
from loger_ros.ros.interface import NODE, PUBLISHED, SERVICES  # noqa: E402
from loger_ros.ros.reference import entries  # noqa: E402
from loger_ros.stream import Reconstructor  # noqa: E402
from loger_ros.types import Frame, Update  # noqa: E402

MOUNT = mount((0.2, 0.0, 0.5), (0.0, 0.3, 0.1))
OF_EVERY_NODE = {"/rosout", "/parameter_events", f"/{NODE}/transition_event"}
TEN = pictures(10)  # one whole chunk of 6, and one of 6 that shares 2
starts = itertools.count(1_000, 1_000)  # s: every test has stamps of its own


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("node")
    checkpoint = write_checkpoint(folder / "small.safetensors")
    environment = own_domain(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        tester = Tester(int(environment["ROS_DOMAIN_ID"]))
        settings = {
            "model__checkpoint": checkpoint,
            "output__folder": folder / "out",
            "output__map_period": 0.1,
            "input__reliable": True,
            "input__undistort": False,
            "cloud__min_confidence": 0,
            "cloud__edge_tolerance": 0,
        }
        with node_process(environment, **settings) as process:
            tester.process = process
            for topic in (interface.ODOMETRY, interface.TF, interface.POSE, interface.PATH):
                tester.hear(topic)
            tester.hear(interface.DIAGNOSTICS)
            tester.wait(lambda: tester.health("node").get("state") == "active")
            yield SimpleNamespace(tester=tester, process=process, folder=folder, checkpoint=checkpoint)
        tester.close()


@pytest.fixture
def node(running: SimpleNamespace) -> SimpleNamespace:
    """Active, with the camera's place known and nothing remembered."""
    tester = running.tester
    tester.send_mount(MOUNT)
    if tester.state() != "active":
        for transition in ("configure", "activate"):
            tester.transition(transition)
    assert tester.trigger("reset").success
    tester.trigger("resume")
    heard = tester.heard.values()
    before = -1
    while before != (before := sum(map(len, heard))):  # what was sent before may still be on its way
        tester.rest(0.1)
    for kept in heard:
        kept.clear()
    running.start = next(starts) * SECOND
    return running


def expected(checkpoint: Path, images: list[np.ndarray], stamps: list[int]) -> list[Update]:
    """What a bare Reconstructor says of the same frames."""
    config = StreamConfig(**STREAM)
    recon = Reconstructor.from_config(load_model(checkpoint), config, keep_results=False)
    return [update for frame in zip(stamps, images, strict=True) for update in recon.push(Frame(*frame))]


def laid_by(updates: list[Update]) -> Update:
    """Whose first frame decides where the map lies: the first one with final poses."""
    return next(update for update in updates if update.final_count)


def odometry_after(tester: Tester, count: int) -> list:
    heard = tester.heard["odometry"]
    tester.wait(lambda: len(heard) >= count)
    return heard


def send_until(node: SimpleNamespace, condition: Callable[[], Any]) -> list[int]:
    """Two images at a time, until the node knows of a new listener. → their stamps"""
    stamps: list[int] = []
    while not condition():
        assert len(stamps) < 400, node.tester.summary()
        stamps += node.tester.send_images(TEN[:2], node.start + len(stamps) * SECOND // 10)
        odometry_after(node.tester, len(stamps))
    return stamps


def test_it_waits_for_the_place_of_its_camera_and_says_so(running: SimpleNamespace) -> None:
    """First of all: nobody has told it yet."""
    tester = running.tester
    tester.send_images(TEN[:3], 0)
    tester.wait(lambda: "no_extrinsic" in tester.health()["message"])
    health = tester.health()
    assert "base_link → camera" in health["message"]
    assert "frames.extrinsic" in health["message"]
    assert health["frames_processed"] == "0"
    assert not tester.heard["odometry"]


def test_it_serves_what_the_interface_says(node: SimpleNamespace) -> None:
    listener = node.tester.node
    topics = dict(listener.get_publisher_names_and_types_by_node(NODE, "/"))
    served = {topic.name if topic.name[0] == "/" else f"/{topic.name}": topic for topic in PUBLISHED}
    assert set(topics) - OF_EVERY_NODE == set(served)
    for name, topic in served.items():
        assert topics[name] == [topic.type]
        (info,) = (i for i in listener.get_publishers_info_by_topic(name) if i.node_name == NODE)
        qos = interface.qos_profile(topic)
        assert (info.qos_profile.reliability, info.qos_profile.durability) == (
            qos.reliability,
            qos.durability,
        ), name
    services = dict(listener.get_service_names_and_types_by_node(NODE, "/"))
    for name in SERVICES:
        assert services[name.replace("~", f"/{NODE}")] == ["std_srvs/srv/Trigger"]


def test_poses_are_those_of_the_stream_seen_from_the_robot(node: SimpleNamespace) -> None:
    tester = node.tester
    stamps = tester.send_images(TEN, node.start + 123_456_789)
    poses = tester.heard["pose"]
    tester.wait(lambda: len(poses) >= 8)  # the last two are provisional
    updates = expected(node.checkpoint, TEN, stamps)
    first = laid_by(updates).frames[0].T_map_camera
    final = [frame for update in updates for frame in update.frames if frame.final]
    assert [stamp_of(message) for message in poses] == [frame.stamp for frame in final] == stamps[:8]
    for message, frame in zip(poses, final, strict=True):
        wanted = MOUNT @ inverse(first) @ frame.T_map_camera @ inverse(MOUNT)
        assert np.abs(pose_of(message.pose.pose) - wanted).max() < 1e-6
        assert message.header.frame_id == "map"
        covariance = np.reshape(message.pose.covariance, (6, 6))
        assert np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0
    tester.wait(lambda: int(tester.health().get("frames_processed", 0)) >= 10)
    assert 0 < float(tester.health("node")["gate_fast_weights"]) < 10
    assert float(tester.health()["chunk_ms_p99"]) > 0
    path = tester.wait(lambda: [p for p in tester.heard["path"] if len(p.poses) == 8])[-1]
    assert [stamp_of(pose) for pose in path.poses] == stamps[:8]
    assert np.allclose(pose_of(path.poses[-1].pose), pose_of(poses[-1].pose.pose))


def test_odometry_comes_early_is_smooth_and_matches_tf(node: SimpleNamespace) -> None:
    tester = node.tester
    stamps = tester.send_images(TEN, node.start + 1)
    heard = odometry_after(tester, 10)
    assert [stamp_of(message) for message in heard] == stamps  # each once, in order, bit for bit
    assert {(message.header.frame_id, message.child_frame_id) for message in heard} == {("odom", "base_link")}
    odometry = {stamp_of(message): pose_of(message.pose.pose) for message in heard}
    updates = expected(node.checkpoint, TEN, stamps)
    assert len(updates) > 2  # among them provisional ones, which is where early odometry comes from
    whole = laid_by(updates)
    before = None
    for update in updates:
        said = {frame.stamp: MOUNT @ frame.T_map_camera @ inverse(MOUNT) for frame in update.frames}
        for stamp, pose in said.items():
            if before is not None and stamp > before:
                step = inverse(said[before]) @ pose  # both as this chunk has them: no jump between chunks
                assert np.abs(inverse(odometry[before]) @ odometry[stamp] - step).max() < 1e-6
            before = stamp if before is None else max(before, stamp)
    for message, last in zip(heard[1:], heard, strict=False):
        moved = difference(odometry[stamp_of(last)], odometry[stamp_of(message)])
        twist = message.twist.twist
        angular = np.array([twist.angular.x, twist.angular.y, twist.angular.z])
        assert np.allclose(angular * 0.1, moved[3:], atol=1e-6)
        linear = np.array([twist.linear.x, twist.linear.y, twist.linear.z])
        assert np.allclose(exp_rotation(moved[3:] / 2) @ linear * 0.1, moved[:3], atol=1e-6)
        for covariance in (message.pose.covariance, message.twist.covariance):
            assert np.linalg.eigvalsh(np.reshape(covariance, (6, 6))).min() > 0
    tester.wait(lambda: len(edges(tester.heard["/tf"], "base_link")) == 10)
    below, above = edges(tester.heard["/tf"], "base_link"), edges(tester.heard["/tf"], "odom")
    assert {edge.header.frame_id for edge in below.values()} == {"odom"}
    assert {edge.header.frame_id for edge in above.values()} == {"map"}
    assert sorted(below) == sorted(above) == stamps
    for stamp in stamps:
        assert np.abs(pose_of(below[stamp].transform) - odometry[stamp]).max() < 1e-9
        saying = next(update for update in updates if stamp in [frame.stamp for frame in update.frames])
        first_said = next(frame for frame in saying.frames if frame.stamp == stamp)
        lays = saying if updates.index(saying) < updates.index(whole) else whole
        origin = MOUNT @ inverse(lays.frames[0].T_map_camera)
        in_map = pose_of(above[stamp].transform) @ odometry[stamp]
        wanted = origin @ first_said.T_map_camera @ inverse(MOUNT)
        assert np.abs(in_map - wanted).max() < 1e-6  # what chunks disagree about goes to map → odom


def test_clouds_and_depth_come_while_someone_listens(node: SimpleNamespace) -> None:
    tester = node.tester
    topics = (interface.POINTS, interface.MAP_POINTS, interface.DEPTH_IMAGE, interface.CONFIDENCE_IMAGE)
    kinds = (PointCloud2, PointCloud2, Image, Image)
    points, whole, depth, confidence = map(tester.hear, topics, kinds)
    infos = tester.hear(interface.DEPTH_INFO, CameraInfo)
    earlier = send_until(node, lambda: points and whole and depth and confidence and infos)
    assert tester.trigger("reset").success
    stamps = tester.send_images(TEN, earlier[-1] + SECOND)
    tester.wait(lambda: stamp_of(whole[-1]) == stamps[7] and stamp_of(points[-1]) == stamps[7])
    tester.wait(lambda: {*stamps} & {*map(stamp_of, depth)} & {*map(stamp_of, confidence)})
    updates = expected(node.checkpoint, TEN, stamps)
    T_map_world = MOUNT @ inverse(laid_by(updates).frames[0].T_map_camera)
    last = updates[-1]
    final = last[: last.final_count]
    assert final.frames[-1].stamp == stamps[7]
    seen = cloud_of(final, CloudConfig(min_confidence=0, edge_tolerance=0, stride=1)).points.double().numpy()
    sent = np.frombuffer(points[-1].data, np.uint8).reshape(-1, points[-1].point_step)[:, :12].copy()
    assert np.allclose(sent.view("<f4"), seen @ T_map_world[:3, :3].T + T_map_world[:3, 3], atol=1e-4)
    shown = {stamp_of(message): np.frombuffer(message.data, "<f4").reshape(24, 32) for message in depth}
    sure = {stamp_of(message): np.frombuffer(message.data, "<f4").reshape(24, 32) for message in confidence}
    newest = max(shown.keys() & sure.keys())
    said = next(update for update in reversed(updates) if update.frames[-1].stamp == newest)
    assert np.allclose(shown[newest], said.local_points[-1, ..., 2], atol=1e-4)
    assert np.allclose(sure[newest], said.confidence[-1, ..., 0].sigmoid(), atol=1e-4)
    assert tester.set("output.map_period", 1000.0) == ""  # counts at once
    more = tester.send_images(TEN[:4], stamps[-1] + SECOND // 10)
    tester.wait(lambda: stamp_of(points[-1]) > stamps[7])
    tester.rest(0.5)
    assert stamp_of(whole[-1]) == stamps[7]
    assert tester.set("output.map_period", 0.1) == ""
    tester.wait(lambda: stamp_of(whole[-1]) == stamp_of(points[-1]) == more[1])
    assert points[-1].header.frame_id == whole[-1].header.frame_id == "map"
    assert points[-1].width == 4 * 24 * 32  # four final frames; every pixel, since they are small
    assert (depth[-1].width, depth[-1].height, depth[-1].encoding) == (32, 24, "32FC1")
    assert depth[-1].header.frame_id == confidence[-1].header.frame_id == "camera"
    assert stamp_of(depth[-1]) in [*stamps, *more]
    assert (infos[-1].width, infos[-1].height) == (32, 24)
    tester.wait(lambda: all(f"age_{output}_s_p99" in tester.health() for output in AGED))
    assert 0 < float(tester.health()["intake_ms_p50"]) < 1000
    for topic in topics:
        tester.heard.pop(topic.name)


def test_maps_and_trajectories_are_saved_inside_the_folder(node: SimpleNamespace) -> None:
    tester = node.tester
    tester.send_images(TEN, node.start)
    tester.wait(lambda: len(tester.heard["pose"]) >= 8)
    answer = tester.trigger("save_map")
    assert answer.success, answer.message
    cloud = read_ply(node.folder / "out" / "map.ply")
    assert str(node.folder / "out" / "map.ply") in answer.message
    assert f"{len(cloud)} points" in answer.message
    assert len(cloud) > 50
    assert tester.set("output.map_file", "map.pcd") == ""
    assert tester.trigger("save_map").success
    assert torch.equal(read_pcd(node.folder / "out" / "map.pcd").colours, cloud.colours)
    answer = tester.trigger("save_trajectory")
    assert answer.success, answer.message
    assert "8 poses" in answer.message
    saved = read_tum(node.folder / "out" / "trajectory.tum")
    assert list(saved.stamps) == [stamp_of(message) for message in tester.heard["pose"]]
    poses = np.array([pose_of(message.pose.pose) for message in tester.heard["pose"]])
    assert np.abs(saved.T_map_camera - poses).max() < 1e-6
    for outside in ("../outside.ply", "/outside.ply"):
        assert "must be a file in output.folder" in tester.set("output.map_file", outside)
    (node.folder / "out" / "away").symlink_to(node.folder)
    (node.folder / "out" / "same.tum").symlink_to("journal.tum")
    assert tester.set("output.map_file", "away/outside.ply") == ""
    answer = tester.trigger("save_map")
    assert not answer.success
    assert "is not inside" in answer.message
    assert not (node.folder / "outside.ply").exists()
    assert tester.set("output.map_file", "map.ply") == ""
    assert tester.set("output.trajectory_file", "same.tum") == ""
    journal = (node.folder / "out" / "journal.tum").read_text()
    answer = tester.trigger("save_trajectory")
    assert not answer.success
    assert "is a journal" in answer.message
    assert (node.folder / "out" / "journal.tum").read_text() == journal
    assert tester.set("output.trajectory_file", "trajectory.tum") == ""


def test_parameters_describe_themselves(node: SimpleNamespace) -> None:
    known = [entry for _, section in entries() for entry in section]
    names = [entry.name for entry in known]
    request = DescribeParameters.Request(names=names)
    told = node.tester.call(DescribeParameters, f"/{NODE}/describe_parameters", request).descriptors
    assert [descriptor.name for descriptor in told] == names
    for entry, descriptor in zip(known, told, strict=True):
        assert entry.description in descriptor.description
        assert ("at any time" in descriptor.additional_constraints) == entry.live
    ranges = {d.name: (*d.integer_range, *d.floating_point_range) for d in told}
    assert ranges["cloud.min_confidence"][0].to_value == 1.0
    assert ranges["queue.capacity"][0].from_value == 1


def test_parameters_are_refused_with_the_reason(node: SimpleNamespace) -> None:
    tester = node.tester
    assert "read when the node is configured" in tester.set("stream.chunk_size", 8)
    assert "a finite number" in tester.set("cloud.min_confidence", "much")
    assert "Max: 1.0" in tester.set("cloud.min_confidence", 2.0)
    assert "distance" in tester.set("map.eviction", "never") or "configured" in tester.set(
        "map.eviction", "x"
    )
    assert "read-only" in tester.set("autostart", False)
    assert tester.set("cloud.min_confidence", 0) == ""  # 0 is as good as 0.0


def test_pausing_drops_images_and_reset_begins_at_the_origin(node: SimpleNamespace) -> None:
    tester = node.tester
    stamps = tester.send_images(TEN[:6], node.start)
    before = pose_of(odometry_after(tester, 6)[-1].pose.pose)
    assert tester.trigger("pause").success
    tester.send_images(TEN[6:8], stamps[-1] + SECOND // 10)
    tester.wait(lambda: tester.health().get("dropped_paused") == "2")
    assert len(tester.heard["odometry"]) == 6
    assert tester.trigger("reset").success
    assert tester.trigger("resume").success
    tester.heard["/tf"].clear()
    (start, _) = tester.send_images(TEN[:2], stamps[-1] + SECOND)
    after = pose_of(odometry_after(tester, 8)[6].pose.pose)
    assert np.allclose(after, before, atol=1e-9)  # odom goes on
    correction = pose_of(tester.wait(lambda: edges(tester.heard["/tf"], "odom").get(start)).transform)
    assert np.allclose(correction @ after, np.eye(4), atol=1e-6)  # the map begins anew


def test_a_bag_that_begins_again_after_a_reset_has_its_depth_again(node: SimpleNamespace) -> None:
    tester = node.tester
    depth = tester.hear(interface.DEPTH_IMAGE, Image)
    stamps = send_until(node, lambda: depth)
    assert tester.trigger("reset").success
    early = tester.send_images(TEN[:4], node.start - 100 * SECOND)
    tester.wait(lambda: stamp_of(depth[-1]) in early)
    odometry_after(tester, len(stamps) + 4)


def test_initialpose_lays_the_map_around_the_robot(node: SimpleNamespace) -> None:
    tester = node.tester
    stamps = tester.send_images(TEN[:6], node.start)
    odometry_after(tester, 6)
    publisher = tester.node.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    tester.wait(publisher.get_subscription_count)
    message = PoseWithCovarianceStamped()
    message.header.frame_id = "map"
    message.pose.pose.position.x, message.pose.pose.orientation.w = 5.0, 1.0
    publisher.publish(message)
    tester.wait(lambda: "the map is moved" in said_by(node.process))
    tester.send_images(TEN[6:8], stamps[-1] + SECOND // 10)
    heard = odometry_after(tester, 8)
    tester.wait(lambda: stamp_of(heard[6]) in edges(tester.heard["/tf"], "odom"))
    before, after = (pose_of(message.pose.pose) for message in (heard[5], heard[6]))
    correction = edges(tester.heard["/tf"], "odom")[stamp_of(heard[6])]
    wanted = transform(np.eye(3), np.array([5.0, 0, 0])) @ inverse(before) @ after
    assert np.abs(pose_of(correction.transform) @ after - wanted).max() < 0.2  # but for what a chunk corrects


def test_time_that_jumps_pauses_or_stands_still(node: SimpleNamespace) -> None:
    tester = node.tester
    first = tester.send_images(TEN[:6], node.start)
    odometry_after(tester, 6)
    tester.send_images(TEN[:1], first[-1])  # the same stamp again
    tester.send_images(TEN[:1], first[-1] - SECOND // 20)  # a straggler
    back = tester.send_images(TEN[:6], node.start - 500 * SECOND)  # a bag that loops
    odometry_after(tester, 12)
    later = tester.send_images(TEN[:4], back[-1] + 60 * SECOND)  # a long gap
    heard = odometry_after(tester, 16)
    assert [stamp_of(message) for message in heard] == [*first, *back, *later]
    tester.wait(lambda: tester.health().get("event_long_gap"))
    health = tester.health()
    for event in ("duplicate_stamp", "out_of_order", "clock_went_back", "long_gap"):
        assert health[f"event_{event}"] == "1"
    poses = [pose_of(message.pose.pose) for message in heard]
    for i in (6, 12):  # the robot is where it was; how fast, nobody knows
        assert np.linalg.norm(difference(poses[i - 1], poses[i])) < 1e-6
        assert np.reshape(heard[i].twist.covariance, (6, 6))[0, 0] >= 1e6


def test_deactivating_keeps_the_memory_and_cleaning_up_frees_it(node: SimpleNamespace) -> None:
    tester = node.tester
    stamps = tester.send_images(TEN[:6], node.start)
    odometry_after(tester, 6)
    assert tester.transition("deactivate")
    assert tester.state() == "inactive"
    tester.wait(lambda: tester.image_publisher().get_subscription_count() == 0)
    saved = tester.trigger("save_map")
    assert saved.success, saved.message
    assert tester.transition("activate")
    assert not tester.transition(Transition.TRANSITION_CONFIGURE), "it is active"
    stamps += tester.send_images(TEN[6:], stamps[-1] + SECOND // 10)
    tester.wait(lambda: len(tester.heard["pose"]) >= 8)
    updates = expected(node.checkpoint, TEN, stamps)  # as if nothing had been in between
    wanted = [frame.T_map_camera for update in updates for frame in update.frames if frame.final]
    first = MOUNT @ inverse(laid_by(updates).frames[0].T_map_camera)
    said = pose_of(tester.heard["pose"][-1].pose.pose)
    assert np.abs(said - first @ wanted[-1] @ inverse(MOUNT)).max() < 1e-6
    assert tester.transition("deactivate")
    assert tester.transition("cleanup")
    assert tester.state() == "unconfigured"
    tester.wait(lambda: tester.image_publisher().get_subscription_count() == 0)
    tester.wait(lambda: len(tester.heard["pose"]) == 10)  # cleaning up makes the last two final
    assert list(read_journal(node.folder / "out" / "journal.tum").stamps[-10:]) == stamps
    assert not tester.trigger("reset").success
    assert tester.set("model.checkpoint", str(node.folder / "missing.pt")) == ""
    assert not tester.transition("configure")
    tester.wait(lambda: "missing.pt" in tester.health("node").get("message", ""))
    assert tester.state() == "unconfigured"
    assert tester.set("model.checkpoint", str(node.checkpoint)) == ""
    assert tester.transition("configure")
    assert tester.transition("activate")


def test_it_ends_in_peace_and_writes_what_is_left(node: SimpleNamespace) -> None:
    """Last of all."""
    tester = node.tester
    stamps = tester.send_images(TEN[:8], node.start)
    odometry_after(tester, 8)
    tester.process = None
    end(node.process)
    assert list(read_journal(node.folder / "out" / "journal.tum").stamps[-8:]) == stamps
