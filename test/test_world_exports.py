"""Data sets written and read again by other hands: rosbags, Pillow, and our own readers of trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from world_folders import write_kitti_folder, write_tum_folder

from loger_ros.cli import main
from loger_ros.evaluation.export.folders import DEPTH_SCALE
from loger_ros.geometry import inverse
from loger_ros.mapping.trajectory_files import read_kitti, read_tum
from loger_ros.world import PRESETS, Sequence, SequenceSpec, generate
from loger_ros.world.bag import write_bag
from loger_ros.world.named_sets import named_sequence

rosbags_highlevel = pytest.importorskip("rosbags.highlevel")
SPEC = SequenceSpec("street", frames=10, width=40, height=30, effects=PRESETS["mild"])


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return generate(SPEC, 6)


def pose_of(message) -> np.ndarray:
    from loger_ros.geometry import rotation_of, transform

    p, q = message.position, message.orientation
    return transform(rotation_of(np.array([q.x, q.y, q.z, q.w])), np.array([p.x, p.y, p.z]))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_holds_images_and_truth(sequence: Sequence, storage: str, tmp_path: Path) -> None:
    write_bag(sequence, tmp_path / "bag", storage, depth=True)
    seen: dict[str, list] = {}
    with rosbags_highlevel.AnyReader([tmp_path / "bag"]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        for connection, stamp, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            seen.setdefault(connection.topic, []).append((stamp, message))
    assert {t for t, name in offered.items() if name == "TRANSIENT_LOCAL"} == {"/tf_static"}
    counts = {topic: len(messages) for topic, messages in seen.items()}
    assert counts.pop("/tf_static") == 1
    assert set(counts) == {"/image", "/camera_info", "/ground_truth/odometry", "/tf", "/depth/image"}
    assert set(counts.values()) == {len(sequence)}
    clip = sequence.render()
    for i, (stamp, image) in enumerate(seen["/image"]):
        assert stamp == sequence.stamps[i] == image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
        assert (image.encoding, image.step, image.header.frame_id) == ("rgb8", 120, "camera_optical_frame")
        assert np.array_equal(image.data.reshape(30, 40, 3), clip.rgb[i])
    depth = seen["/depth/image"][4][1]
    assert np.array_equal(depth.data.view("<f4").reshape(30, 40), clip.depth[4])
    info = seen["/camera_info"][0][1]
    assert np.allclose(info.k.reshape(3, 3), sequence.camera.matrix())
    static = seen["/tf_static"][0][1].transforms[0]
    assert (static.header.frame_id, static.child_frame_id) == ("base_link", "camera_optical_frame")
    truth = seen["/ground_truth/odometry"]
    for i, (_, odometry) in enumerate(truth):
        assert (odometry.header.frame_id, odometry.child_frame_id) == ("world", "base_link_truth")
        assert np.allclose(pose_of(odometry.pose.pose) @ sequence.mount_transform, sequence.T_world_camera[i])
        moved = seen["/tf"][i][1].transforms[0].transform.translation
        assert (moved.x, moved.y) == (odometry.pose.pose.position.x, odometry.pose.pose.position.y)
    speed = np.linalg.norm(sequence.T_world_base[5, :3, 3] - sequence.T_world_base[4, :3, 3]) * SPEC.rate
    twist = truth[5][1].twist.twist.linear
    assert np.linalg.norm([twist.x, twist.y, twist.z]) == pytest.approx(speed, abs=1e-9)


def test_a_bag_of_jpegs(sequence: Sequence, tmp_path: Path) -> None:
    import io

    write_bag(sequence, tmp_path / "bag", compressed=True)
    with rosbags_highlevel.AnyReader([tmp_path / "bag"]) as reader:
        connection = next(c for c in reader.connections if c.topic == "/image/compressed")
        _, _, data = next(reader.messages([connection]))
        message = reader.deserialize(data, connection.msgtype)
    assert message.format == "jpeg"
    picture = np.asarray(Image.open(io.BytesIO(message.data.tobytes())))
    assert np.abs(picture.astype(int) - sequence.render(0, 1).rgb[0].numpy()).mean() < 12


def test_a_folder_as_of_tum(sequence: Sequence, tmp_path: Path) -> None:
    folder = tmp_path / "tum"
    write_tum_folder(sequence, folder)
    rows = {name: (folder / f"{name}.txt").read_text().split() for name in ("rgb", "depth")}
    assert len(rows["rgb"]) == len(rows["depth"]) == 2 * len(sequence)
    assert rows["rgb"][0] == "1.000000000"
    clip = sequence.render()
    picture = np.asarray(Image.open(folder / rows["rgb"][2 * 7 + 1]))
    assert np.array_equal(picture, clip.rgb[7])
    steps = np.asarray(Image.open(folder / rows["depth"][2 * 7 + 1]))
    assert steps.dtype in (np.uint16, np.int32)  # as which older Pillows read 16 bits
    metres, true = steps / DEPTH_SCALE, clip.depth[7].numpy()
    near = true < 13.1
    assert np.abs(metres - true)[near].max() <= 0.5 / DEPTH_SCALE + 1e-6
    assert (steps[true > 13.2] == 0).all()
    assert near.any()
    assert np.isinf(true).any(), "there is sky in it"
    trajectory = read_tum(folder / "groundtruth.txt")
    assert trajectory.stamps == tuple(sequence.stamps)
    assert np.abs(trajectory.T_map_camera - sequence.T_world_camera).max() < 1e-8


def test_a_folder_as_of_kitti(sequence: Sequence, tmp_path: Path) -> None:
    folder = tmp_path / "kitti"
    write_kitti_folder(sequence, folder)
    assert sorted(path.name for path in (folder / "image_2").iterdir())[-1] == "000009.png"
    poses = read_kitti(folder / "poses.txt")
    assert np.allclose(poses[0], np.eye(4))
    assert np.allclose(poses, inverse(sequence.T_world_camera[:1]) @ sequence.T_world_camera, atol=1e-9)
    lines = (folder / "calib.txt").read_text().splitlines()
    assert [line[:3] for line in lines] == ["P0:", "P1:", "P2:", "P3:"]
    matrix = np.array(lines[2].split()[1:], float).reshape(3, 4)[:, :3]
    assert np.allclose(matrix, sequence.camera.matrix())
    times = np.array((folder / "times.txt").read_text().split(), float)
    assert np.allclose(times, np.arange(10) / 10)


def test_nothing_is_overwritten(sequence: Sequence, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear to me")
    for write in (write_tum_folder, write_kitti_folder, write_bag):
        with pytest.raises(ValueError, match=r"choose a new folder"):
            write(sequence, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_previews_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    choice = ["--place", "corridor", "--frames", "12", "--size", "48x36", "--seed", "3"]
    assert main(["world", "preview", *choice, "--out", str(tmp_path)]) == 0
    assert "12 frames" in capsys.readouterr().out
    sheet = Image.open(tmp_path / "corridor_robot_3_0.png")
    assert sheet.width > 4 * 48
    film = Image.open(tmp_path / "corridor_robot_3_0.gif")
    assert film.n_frames == 12
    assert main(["world", "export", "kitti", str(tmp_path / "out"), *choice]) == 0
    assert (tmp_path / "out" / "image_2" / "000011.png").exists()
    assert main(["world", "export", "kitti", str(tmp_path / "out"), *choice]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["world", "preview", "--set", "street", "--index", "77"]) == 2
    assert "0 to 3" in capsys.readouterr().err


def test_a_named_set_can_be_cut_and_fixes_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    named = ["--set", "robot_rooms", "--size", "32x24"]
    assert main(["world", "export", "tum", str(tmp_path / "out"), *named, "--frames", "3"]) == 0
    assert "3 frames" in capsys.readouterr().out
    stored = sorted((tmp_path / "out" / "rgb").iterdir())
    whole = named_sequence("robot_rooms", 0, 32, 24).render(0, 3)
    assert len(stored) == 3
    assert np.array_equal(np.asarray(Image.open(stored[2])), whole.rgb[2])
    for option in (
        ["--place", "rooms"],
        ["--closed"],
        ["--seed", "0"],
        ["--pitch", "0"],
        ["--effects", "none"],
    ):
        for action in (
            ["export", "bag", str(tmp_path / "bag")],
            ["preview", "--out", str(tmp_path / "look")],
        ):
            assert main(["world", *action, *named, *option]) == 2
            assert f"{option[0]}: --set robot_rooms fixes that" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_options_of_bags_are_refused_for_other_formats(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for option in (["--storage", "mcap"], ["--compressed"], ["--with-depth"]):
        for form in ("tum", "kitti"):
            assert main(["world", "export", form, str(tmp_path / "out"), "--frames", "2", *option]) == 2
            assert f"{option[0]} is an option for bags, not for {form}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    bag = ["world", "export", "bag", str(tmp_path / "bag"), "--frames", "2", "--size", "32x24"]
    assert main(bag) == 0
    assert list((tmp_path / "bag").glob("*.mcap"))
