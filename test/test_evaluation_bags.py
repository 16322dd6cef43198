"""Bags of every storage, topics that are guessed or named, truth of every type, and what damage does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import small_model
from world_folders import write_tum_folder

from loger_ros.bags import BagMessages
from loger_ros.config import StreamConfig
from loger_ros.evaluation.run import Settings, run_source
from loger_ros.evaluation.sources import Choice, SourceError, bag_truth, find_sources, open_source
from loger_ros.geometry import exp_rotation, inverse, transform
from loger_ros.mapping.trajectory_files import write_tum
from loger_ros.types import Trajectory
from loger_ros.world import Sequence, SequenceSpec, generate
from loger_ros.world.bag import write_bag

rosbags = pytest.importorskip("rosbags.highlevel")
SPEC = SequenceSpec("rooms", frames=8, width=40, height=30)


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return generate(SPEC, seed=4)


@pytest.fixture(scope="module")
def bag(sequence: Sequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags") / "mcap"
    write_bag(sequence, folder, depth=True)
    return folder


def check(source, sequence: Sequence, exact: bool = True) -> None:
    frames = list(source.frames())
    assert len(source) == len(frames) == len(sequence)
    assert tuple(frame.stamp for frame in frames) == tuple(source.stamps) == tuple(sequence.stamps)
    wrong = np.abs(frames[3].image.astype(int) - sequence.render(3, 4).rgb[0].numpy())
    assert wrong.max() == 0 if exact else wrong.mean() < 12
    np.testing.assert_allclose(source.camera.matrix, sequence.camera.matrix())
    truth = source.truth()
    assert truth.stamps == tuple(sequence.stamps)
    np.testing.assert_allclose(truth.T_map_camera, sequence.T_world_camera, atol=1e-9)
    assert not source.problems.counts


@pytest.mark.parametrize(("storage", "compressed"), [("mcap", False), ("sqlite3", True)])
def test_bags_of_the_world(sequence: Sequence, storage: str, compressed: bool, tmp_path: Path) -> None:
    """The truth is of base_link_truth; the mount of base_link on /tf_static carries it over to the camera."""
    write_bag(sequence, tmp_path / "bag", storage, compressed)
    source = open_source(tmp_path / "bag")
    assert source.kind == f"rosbag2, /image{'/compressed' if compressed else ''}"
    check(source, sequence, exact=not compressed)


def test_a_damaged_static_transform_costs_itself_alone(sequence: Sequence, tmp_path: Path) -> None:
    write_bag(sequence, tmp_path / "bag", "sqlite3", False)
    with sqlite3.connect(next((tmp_path / "bag").glob("*.db3"))) as storage:
        ((topic,),) = storage.execute("SELECT id FROM topics WHERE name = '/tf_static'")
        row = (topic, sequence.stamps[0], bytes.fromhex("000100000200000001"))
        storage.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    source = open_source(tmp_path / "bag")
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)
    assert source.problems.counts.keys() == {"tf_static_broken"}
    assert source.camera.T_base_camera is not None


def test_static_transforms_in_a_broken_place_cost_the_mounting_alone(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = rosbags.AnyReader.messages

    def messages(reader: object, connections: list, *others: object, **named: object) -> Iterator:
        if any(connection.topic == "/tf_static" for connection in connections):
            raise ValueError("database disk image is malformed")
        return read(reader, connections, *others, **named)

    monkeypatch.setattr(rosbags.AnyReader, "messages", messages)
    source = open_source(bag)
    assert len(source.truth()) == len(source)
    told = [event.message for event in source.problems.recent if event.name == "tf_static_broken"]
    assert "/tf_static cannot be read to its end (database disk image is malformed)" in told
    assert source.problems.counts["truth_not_of_camera"] == 1


def test_a_single_storage_file_is_a_bag(bag: Path, sequence: Sequence, tmp_path: Path) -> None:
    (tmp_path / "alone.mcap").write_bytes(next(bag.glob("*.mcap")).read_bytes())
    source = open_source(tmp_path / "alone.mcap")
    assert source.name == "alone"
    check(source, sequence)
    assert list(find_sources(bag.parent)) == [bag]


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE", "STORAGE"])
def test_bags_compressed_by_zstd(sequence: Sequence, mode: str, tmp_path: Path) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

    plugin = StoragePlugin.MCAP if mode == "STORAGE" else StoragePlugin.SQLITE3
    write_own(tmp_path / "bag", sequence, plugin, (CompressionMode[mode], CompressionFormat.ZSTD))
    source = open_source(tmp_path / "bag", Choice(truth="/robot/pose"))
    assert [frame.stamp for frame in source.frames()] == list(sequence.stamps)
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)


def write_own(folder: Path, sequence: Sequence, plugin=None, compression=None, kind="PoseStamped") -> None:
    """A robot's bag: two cameras, depth, its own odometry and a truth of another name."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    messages = BagMessages(store.types)
    writer = Writer(folder, version=8, storage_plugin=plugin or StoragePlugin.MCAP)
    if compression:
        writer.set_compression(*compression)
    with writer:
        topics = {
            "/a/depth/image_raw": "sensor_msgs/msg/Image",
            "/front/image_raw": "sensor_msgs/msg/Image",
            "/rear/image_raw": "sensor_msgs/msg/Image",
            "/robot/pose": f"geometry_msgs/msg/{kind}",
            "/robot/silent": f"geometry_msgs/msg/{kind}",
        }
        connections = {t: writer.add_connection(t, name, typestore=store) for t, name in topics.items()}

        def write(topic: str, stamp: int, message: object) -> None:
            writer.write(connections[topic], stamp, store.serialize_cdr(message, topics[topic]))

        for i, frame in enumerate(sequence.frames()):
            write("/a/depth/image_raw", frame.stamp, messages.depth(frame.stamp, np.ones((4, 4), np.float32)))
            write("/front/image_raw", frame.stamp, messages.rgb(frame.stamp, frame.image))
            if i % 2:
                write("/rear/image_raw", frame.stamp, messages.rgb(frame.stamp, frame.image[::-1]))
            odometry = messages.odometry(frame.stamp, "world", "camera", sequence.T_world_camera[i])
            pose = store.types[f"geometry_msgs/msg/{kind}"]
            if kind == "TransformStamped":
                sent = messages.tf(frame.stamp, "map", "camera_optical_frame", sequence.T_world_camera[i])
                write("/robot/pose", frame.stamp, sent.transforms[0])
            else:
                inner = odometry.pose if "Covariance" in kind else odometry.pose.pose
                write("/robot/pose", frame.stamp, pose(odometry.header, inner))


def test_topics_are_guessed_or_named(sequence: Sequence, tmp_path: Path) -> None:
    write_own(tmp_path / "bag", sequence)
    source = open_source(tmp_path / "bag")
    assert source.topic == "/front/image_raw", "colour before depth, then the most messages"
    assert source.truth() is None, "a robot's own pose is no truth unless one says so"
    assert source.camera is None
    rear = open_source(tmp_path / "bag", Choice(topic="rear/image_raw"))
    assert len(list(rear.frames())) == 4
    for choice, words in (
        (Choice(topic="/side"), "no topic /side; topics with images: /a/depth/image_raw, /front"),
        (Choice(topic="/robot/pose"), "no images"),
        (Choice(truth="/side"), "neither a file nor a topic; topics with poses: /robot/pose"),
        (Choice(truth="/robot/silent"), "/robot/silent, given as the truth, has no messages"),
        (Choice(truth="/front/image_raw"), "no poses"),
    ):
        with pytest.raises(SourceError, match=words):
            open_source(tmp_path / "bag", choice)


@pytest.mark.parametrize("kind", ["PoseStamped", "PoseWithCovarianceStamped", "TransformStamped"])
def test_truth_of_other_types(kind: str, sequence: Sequence, tmp_path: Path) -> None:
    """Those without a child frame do not say what they are of."""
    write_own(tmp_path / "bag", sequence, kind=kind)
    source = open_source(tmp_path / "bag", Choice(truth="/robot/pose"))
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)
    assert source.problems.counts == ({} if kind == "TransformStamped" else {"truth_body_unknown": 1})
    choice = Choice(truth="/robot/pose", truth_frame="camera_optical_frame")
    told = open_source(tmp_path / "bag", choice)
    np.testing.assert_allclose(told.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)
    assert not told.problems.counts


def write_camera(
    folder: Path, topic: str, info: object, info_topic: str = "/cam/camera_info", **images: bytes
):
    """Three images of frame camera_optical_frame with one camera_info, beside one that is silent.

    images: other bytes by number.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/silent/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store)
        for name, kind, message in (
            (info_topic, "sensor_msgs/msg/CameraInfo", info),
            (topic, "sensor_msgs/msg/Image", None),
        ):
            connection = writer.add_connection(name, kind, typestore=store)
            for i in range(1 if message else 3):
                sent = message or BagMessages(store.types).rgb(
                    10**9 * (i + 1), np.zeros((30, 40, 3), np.uint8)
                )
                data = images.get(f"image_{i}") if message is None else None
                writer.write(connection, 10**9 * (i + 1), data or store.serialize_cdr(sent, kind))
    return open_source(folder)


@pytest.fixture
def messages() -> BagMessages:
    from rosbags.typesys import Stores, get_typestore

    return BagMessages(get_typestore(Stores.ROS2_HUMBLE).types)


def test_the_camera_is_that_of_the_node(messages: BagMessages, sequence: Sequence, tmp_path: Path) -> None:
    """Of straightened images the projection counts, and the calibration is that of all pixels."""
    camera = replace(sequence.camera.described(), distortion=(-0.3, 0.1, 0.0, 0.0, 0.0))
    info = messages.camera_info(0, camera)
    info.p = np.hstack([np.diag([20.0, 20.0, 1.0]), np.zeros((3, 1))]).reshape(-1)
    raw = write_camera(tmp_path / "raw", "/cam/image_raw", info).camera
    assert (raw.matrix[0, 0], raw.distortion[0]) == (sequence.camera.fx, -0.3)
    straight = write_camera(tmp_path / "straight", "/cam/image_rect_color", info).camera
    assert (straight.matrix[0, 0], straight.distortion) == (20.0, ())
    info.width, info.height, info.binning_x, info.binning_y = 80, 60, 2, 2
    binned = write_camera(tmp_path / "binned", "/cam/image_raw", info).camera
    assert (binned.width, binned.matrix[0, 0]) == (40, sequence.camera.fx / 2)


def test_a_broken_message_is_no_reason_to_lose_others(
    messages: BagMessages, sequence: Sequence, tmp_path: Path
) -> None:
    """The first one, from which the frame of the camera is known, and one without a byte."""
    info = messages.camera_info(0, sequence.camera.described())
    source = write_camera(tmp_path / "bag", "/cam/image_raw", info, image_0=bytes(16), image_1=b"\0")
    assert source.camera.matrix[0, 0] == sequence.camera.fx
    assert source.stamps[1:] == (2 * 10**9, 3 * 10**9)
    assert [frame.stamp for frame in source.frames()] == [3 * 10**9]
    assert source.problems.counts["damaged_message"] == 2


def test_a_camera_info_of_another_camera_is_not_taken(
    messages: BagMessages, sequence: Sequence, tmp_path: Path
) -> None:
    info = messages.camera_info(0, sequence.camera.described())
    elsewhere = write_camera(tmp_path / "same_frame", "/cam/image_raw", info, "/info/camera_info")
    assert elsewhere.camera.matrix[0, 0] == sequence.camera.fx
    info.header.frame_id = "depth"
    other = write_camera(tmp_path / "other", "/cam/image_raw", info, "/depth/camera_info")
    assert other.camera is None
    (problem,) = other.problems.recent
    assert problem.name == "no_camera_info"
    assert "/depth/camera_info has the frame 'depth'" in problem.message
    assert "record /cam/camera_info" in problem.message


def test_truth_in_a_file_is_of_the_camera_or_of_the_body_that_is_named(
    bag: Path, sequence: Sequence, tmp_path: Path
) -> None:
    stamps, none = tuple(int(stamp) for stamp in sequence.stamps), (0,) * len(sequence)
    for name in ("camera", "base"):
        poses = sequence.T_world_camera if name == "camera" else sequence.T_world_base
        write_tum(tmp_path / f"{name}.txt", Trajectory(stamps, poses, none))
    choice = Choice(truth=str(tmp_path / "base.txt"), truth_frame="base_link")
    for told in (Choice(truth=str(tmp_path / "camera.txt")), choice):
        source = open_source(bag, told)
        np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-6)
        assert not source.problems.counts
    with pytest.raises(SourceError, match=f"the poses of {choice.truth} cannot be converted"):
        open_source(bag, replace(choice, truth_frame="sonar"))
    write_tum_folder(sequence, tmp_path / "folder")
    for no_bag in ("robot_rooms/0", tmp_path / "folder"):
        with pytest.raises(SourceError, match="leave --truth-frame out"):
            open_source(no_bag, choice)


def test_truth_from_tf(bag: Path, sequence: Sequence) -> None:
    source = open_source(bag, Choice(truth="/tf:world:base_link_truth"))
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)
    with pytest.raises(SourceError, match="PARENT:CHILD"):
        open_source(bag, Choice(truth="/tf"))
    with pytest.raises(SourceError, match=r"no transform from world to moon; it has .*world:base_link_truth"):
        open_source(bag, Choice(truth="/tf:world:moon"))


@pytest.mark.parametrize("recorded", [True, False])
def test_truth_of_the_base_follows_a_mounting_that_is_said(
    recorded: bool, bag: Path, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not recorded:
        monkeypatch.setattr(bag_truth, "_static_edges", lambda reader, problems: {})
    xyz, rpy = (1.0, 2.0, 3.0), (0.0, 0.0, 1.0)
    for choice in (Choice(camera_xyz=xyz, camera_rpy=rpy), Choice(camera_xyz=xyz)):
        source = open_source(bag, choice)
        T_base_camera = source.camera.T_base_camera
        np.testing.assert_allclose(T_base_camera[:3, 3], xyz)
        expected = sequence.T_world_base @ T_base_camera
        np.testing.assert_allclose(source.truth().T_map_camera, expected, atol=1e-9)
        assert not source.problems.counts


@pytest.mark.parametrize("body", ["base_footprint", "base_footprint_truth"])
def test_a_mounting_that_is_said_is_that_of_base_link(
    body: str, bag: Path, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = transform(np.eye(3), np.array([0.5, 0.0, 0.3]))
    edges = {"base_footprint": {"base_link": up}, "base_link": {"base_footprint": inverse(up)}}
    monkeypatch.setattr(bag_truth, "_static_edges", lambda reader, problems: edges)
    source = open_source(bag, Choice(truth_frame=body, camera_xyz=(1.0, 2.0, 3.0)))
    expected = sequence.T_world_base @ up @ source.camera.T_base_camera
    np.testing.assert_allclose(source.truth().T_map_camera, expected, atol=1e-9)


def test_a_body_without_a_mount_is_told_and_refused_where_it_was_named(
    bag: Path, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"from 'sonar' to 'camera.*/tf_static has .*base_link"):
        open_source(bag, Choice(truth_frame="sonar"))
    monkeypatch.setattr(bag_truth, "_static_edges", lambda reader, problems: {})
    source = open_source(bag)
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_base, atol=1e-9)
    assert source.problems.counts == {"truth_not_of_camera": 1}


def test_a_bag_of_ros_1(sequence: Sequence, tmp_path: Path) -> None:
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    header, stamp_type = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    image_type, pose_type = "sensor_msgs/msg/Image", "geometry_msgs/msg/PoseStamped"
    with Writer(tmp_path / "old.bag") as writer:
        images = writer.add_connection("/cam0/image_raw", image_type, typestore=store)
        poses = writer.add_connection("/vicon/pose", pose_type, typestore=store)
        infos = writer.add_connection("/cam0/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store)
        info = BagMessages(types | {"std_msgs/msg/Header": lambda *head: header(0, *head)})
        told = info.camera_info(0, sequence.camera.described())
        data = store.serialize_ros1(told, "sensor_msgs/msg/CameraInfo")
        writer.write(infos, int(sequence.stamps[0]), data)
        odometry = BagMessages(get_typestore(Stores.ROS2_HUMBLE).types).odometry
        for i, frame in enumerate(sequence.frames()):
            head = header(i, stamp_type(*divmod(frame.stamp, 10**9)), "cam0")
            grey = np.ascontiguousarray(frame.image[..., 0])
            image = types[image_type](head, 30, 40, "mono8", 0, 40, grey.reshape(-1))
            writer.write(images, frame.stamp, store.serialize_ros1(image, image_type))
            inner = odometry(frame.stamp, "world", "camera", sequence.T_world_camera[i]).pose.pose
            message = types[pose_type](head, inner)
            writer.write(poses, frame.stamp, store.serialize_ros1(message, pose_type))
    source = open_source(tmp_path / "old.bag")
    assert source.kind == "ROS 1 bag, /cam0/image_raw"
    np.testing.assert_allclose(source.camera.matrix, sequence.camera.matrix())
    frames = list(source.frames())
    assert [frame.stamp for frame in frames] == list(sequence.stamps)
    assert frames[2].image[5, 6].tolist() == [int(sequence.render(2, 3).rgb[0, 5, 6, 0])] * 3
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-9)


def test_damaged_files_are_told(bag: Path, tmp_path: Path) -> None:
    whole = next(bag.glob("*.mcap")).read_bytes()
    half = tmp_path / "half.mcap"
    half.write_bytes(whole[: len(whole) // 2])  # the index at its end is missing
    with pytest.raises(SourceError, match="mcap recover"):
        open_source(half)
    noisy = tmp_path / "noisy.mcap"
    noisy.write_bytes(whole[: len(whole) // 2] + bytes([255]) * 400 + whole[len(whole) // 2 + 400 :])
    assert len(list(open_source(noisy).frames())) >= 7
    empty = tmp_path / "empty.db3"
    empty.write_bytes(b"")
    with pytest.raises(SourceError, match=r"reindex|no images"):
        open_source(empty)
    (tmp_path / "noise.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(range(256)) * 8)
    with pytest.raises(SourceError, match="cannot be opened as a bag"):
        open_source(tmp_path / "noise.bag")


def test_single_messages_may_be_damaged(sequence: Sequence, tmp_path: Path) -> None:
    """A cut JPEG, a GIF, a short message and a stamp of 0: three are left out, one is dated.

    Zeros behind a JPEG, as some cameras send them, do no harm.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    messages = BagMessages(store.types)
    kind = "sensor_msgs/msg/CompressedImage"
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/image/compressed", kind, typestore=store)
        for i, frame in enumerate(sequence.frames()):
            message = messages.jpeg(0 if i == 5 else frame.stamp, frame.image)
            if i == 2:
                message.data = message.data[: len(message.data) // 2]
            if i == 6:
                message.data = np.append(message.data, np.zeros(100, np.uint8))
            data = bytes(store.serialize_cdr(message, kind))
            if i == 3:
                data = data[:40]
            if i == 4:
                message.data = np.frombuffer(b"GIF89a" + bytes(50), np.uint8)
                data = store.serialize_cdr(message, kind)
            writer.write(connection, frame.stamp, data)
    source = open_source(tmp_path / "bag")
    assert [frame.stamp for frame in source.frames()] == [int(sequence.stamps[i]) for i in (0, 1, 5, 6, 7)]
    assert source.problems.counts == {"unreadable_image": 2, "damaged_message": 1, "no_stamps": 1}


def test_stamps_out_of_order_cost_only_their_frames(sequence: Sequence, tmp_path: Path) -> None:
    """One image that comes late and one that comes twice."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    messages, kind = BagMessages(store.types), "sensor_msgs/msg/Image"
    frames = list(sequence.frames())
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image", kind, typestore=store)
        for at, i in enumerate((0, 1, 3, 2, 3, 4, 5, 6, 7)):
            data = store.serialize_cdr(messages.rgb(frames[i].stamp, frames[i].image), kind)
            writer.write(connection, at, data)
    settings = Settings(StreamConfig(chunk_size=4, overlap=1, resolution="32x24"))
    run = run_source(open_source(tmp_path / "bag"), small_model().requires_grad_(False), settings)
    assert run.trajectory.stamps == tuple(frames[i].stamp for i in (0, 1, 3, 4, 5, 6, 7))
    assert run.events.counts == {"out_of_order": 1, "duplicate_stamp": 1}


def test_a_static_path_may_have_several_edges() -> None:
    from loger_ros.evaluation.sources.bag_truth import _path

    rng = np.random.default_rng(0)
    a, b = (transform(exp_rotation(rng.normal(size=3)), rng.normal(size=3)) for _ in range(2))
    edges = {"base": {"mast": a}, "mast": {"base": inverse(a), "camera": b}, "camera": {"mast": inverse(b)}}
    np.testing.assert_allclose(_path(edges, "base", "/camera"), a @ b)
    np.testing.assert_allclose(_path(edges, "camera", "base"), inverse(a @ b))
    assert _path(edges, "base", "moon") is None
