"""The demo: its table and results on their own, and the whole of it as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loger_ros.cli import main
from loger_ros.evaluation.drive import Drive, picture
from loger_ros.geometry import exp_rotation, transform
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.point_files import read_ply
from loger_ros.ros.demo.progress import HEAD, Progress, Table
from loger_ros.types import Trajectory

ROOT = Path(__file__).resolve().parents[1]
SECOND = 10**9


def straight(count: int, step: float = 0.1) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = step * np.arange(count)
    return poses


def driven(scale: float = 1.0) -> Progress:
    """Two metres ahead; the truth is told in a world of its own, the estimate is ``scale`` times as long."""
    progress = Progress()
    turned = transform(exp_rotation(np.array([0, 0, 1.0])), np.array([5.0, -3, 0]))
    for i, (true, made) in enumerate(zip(straight(21), straight(21, 0.1 * scale), strict=True)):
        progress.true_pose(i * SECOND, turned @ true)
        progress.odometry(i * SECOND, made, i * SECOND + SECOND // 4)
    return progress


def test_drift_is_measured_from_where_both_began() -> None:
    assert driven().drift() == pytest.approx(0, abs=1e-9)
    assert driven(1.1).drift() == pytest.approx(0.2)


def test_a_row_tells_frames_age_way_and_drift_below_its_headings() -> None:
    progress = driven(1.1)
    progress.chunks = 7
    row = progress.row(12.3)
    assert row.split() == ["12", "s", "21", "21", "7", "0.25", "s", "2.0", "m", "0.20", "m", "(10.0", "%)"]
    for heading, value in (("images", "21"), ("chunks", "7")):
        end = HEAD.index(heading) + len(heading)
        assert row[:end].endswith(value)


def test_a_row_before_any_odometry_claims_nothing() -> None:
    progress = Progress()
    progress.true_pose(0, np.eye(4))
    assert progress.row(1.0).split() == ["1", "s", "1", "0", "0", "-", "0.0", "m", "-"]


def test_into_a_file_the_table_writes_whole_rows_only(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = driven()
    table = Table(21)
    for now in (101.0, 104.9, 105.2, 106.0, 110.1):  # noqa: B007 (the clock reads it)
        table.show(progress)
    now = 112.0
    table.show(progress, last=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == HEAD
    assert [line.split()[0] for line in lines[1:]] == ["5", "10", "12"]


def drive() -> Drive:
    """A bend, with an estimate that is a little too short and lost its first three images."""
    angles = np.linspace(0, 3, 60)
    poses = np.stack(
        [transform(exp_rotation(np.array([0, 0, a])), [3 * np.sin(a), -3 * np.cos(a), 0]) for a in angles]
    )
    stamps = [i * SECOND // 10 for i in range(60)]
    made = poses[3:].copy()
    made[:, :3, 3] *= 0.9
    return Drive.of(Trajectory(tuple(stamps[3:]), made, (0,) * 57), dict(zip(stamps, poses, strict=True)))


def test_the_summary_is_one_line_with_the_error_and_the_scale() -> None:
    made = drive()
    line = made.summary()
    assert "\n" not in line
    assert "57 of 60 images" in line
    assert "best scale 1.11" in line
    spread = made.truth[:, :3, 3] - made.truth[:, :3, 3].mean(0)
    error = 0.1 * np.sqrt((spread**2).sum(1).mean())
    assert float(re.match(r"ATE ([\d.]+) m", line)[1]) == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("wide", [False, True])
def test_the_picture_holds_the_three_views(wide: bool) -> None:
    rng = np.random.default_rng(0)
    size = (20.0, 4.0, 0.0) if wide else (6.0, 6.0, 0.0)
    points = torch.from_numpy((rng.random((12_000, 3)) - 0.5) * size).float()
    cloud = Cloud(points, torch.full((12_000, 3), 90, dtype=torch.uint8), torch.ones(12_000))
    made = picture(drive().scene(cloud, 0.1, camera_height=0.5), "title")
    assert made.height > 300
    dark = (np.abs(np.asarray(made).astype(int) - 90) < 40).all(-1)
    if wide:  # above, and two below
        views = [dark[-460:, : made.width // 2], dark[-460:, made.width // 2 :]]
    else:  # left, and two at the right
        views = [dark[: made.height // 2, -300:], dark[made.height // 2 :, -300:]]
    assert all(view.mean() > 0.02 for view in views)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_numbers_that_cannot_work_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", "--out", str(tmp_path / "new"), "--rate", "0"]) == 2
    assert "--rate" in capsys.readouterr().err


def demo(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "loger_ros", "demo", *options],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_whole_demo(tmp_path: Path, ros_environment: dict[str, str]) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    rosbags = pytest.importorskip("rosbags.highlevel")
    folder = tmp_path / "results"
    done = demo(ros_environment, "--seconds", "4", "--out", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert HEAD in done.stdout
    assert "waiting for camera info" not in done.stdout
    (line,) = re.findall(r"^ATE .*$", done.stdout, re.MULTILINE)
    poses = read_journal(folder / "trajectory.tum")
    count, images = map(int, re.search(r"(\d+) of (\d+) images", line).groups())
    lost = sum(map(int, re.findall(r"Images not used: (\d+)", done.stdout)))
    assert images == 40
    assert count == len(poses)
    assert len(set(poses.segments)) == 1
    assert len(read_ply(folder / "map.ply")) > 100
    with Image.open(folder / "picture.png") as picture_of_it:
        assert min(picture_of_it.size) > 300
    with rosbags.AnyReader([folder / "bag"]) as reader:
        topics = {connection.topic: connection.msgcount for connection in reader.connections}
        (static,) = (c for c in reader.connections if c.topic == "/tf_static")
        (edge,) = (reader.deserialize(data, c.msgtype) for c, _, data in reader.messages([static]))
        told = [c for c in reader.connections if c.topic == "/diagnostics"]
        said = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(told)]
    values = [value for array in said for status in array.status for value in status.values]
    received = max(int(value.value) for value in values if value.key == "images_received")
    assert count + lost >= received > 4  # the first ones may be lost while DDS connects
    assert {"/image", "/odometry", "/points", "/map_points", "/tf", "/diagnostics"} <= set(topics)
    assert topics["/ground_truth/odometry"] == images
    assert topics["/odometry"] >= count - 4  # all but the short tail, which is only recorded
    assert edge.transforms[0].child_frame_id == "camera_optical_frame"
    assert static.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"


def test_another_camera_in_the_same_domain_is_not_mixed_in(
    tmp_path: Path, ros_environment: dict[str, str], ros_domain: int
) -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
    from rclpy.context import Context
    from sensor_msgs.msg import Image as ImageMessage

    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        other = rclpy.create_node("other_camera", context=context)
        other.create_publisher(ImageMessage, "image", 1)
        done = demo(ros_environment, "--out", str(tmp_path / "results"))
        other.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    assert done.returncode == 1
    assert "Another program publishes /image" in done.stderr


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, ros_environment: dict[str, str]) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    (tmp_path / "file").write_text("")
    done = demo(ros_environment, "--out", str(tmp_path / "file" / "results"))
    assert done.returncode == 1
    assert f"loger demo: {tmp_path / 'file' / 'results'} cannot be written" in done.stderr
    assert "choose another --out" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tinny", "~/missing.safetensors"])
def test_a_network_that_is_not_there_is_said_before_there_is_a_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    assert main(["demo", "--checkpoint", name, "--out", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("loger demo: ")
    assert f"{os.path.expanduser(name)} does not exist" in said
    assert not list(tmp_path.iterdir())
