"""A bag through the real node and through the core: no image is lost, and both say the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("rosbags", reason="reads a bag")

from checkpoints import small_checkpoint
from PIL import Image

from loger_ros.cli import main
from loger_ros.geometry import inverse
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.point_files import read_ply
from loger_ros.mapping.trajectory_files import read_tum
from loger_ros.ros.interface import LISTENING
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.bag import write_bag

FRAMES = 44  # more than any queue on the way holds


@pytest.mark.parametrize(
    ("asked", "unlike"),
    [
        ([], ["--unit", "1"]),  # automatic, by the mounting
        (["--field-of-view", "80", "--pitch", "-3"], ["--pitch", "0"]),
        (["--motion", "wheels", "--unit", "0.02"], ["--motion", "free"]),
    ],
    ids=["as it is", "turned", "on wheels"],
)
def test_node_and_core_agree(
    asked: list[str], unlike: list[str], ros_domain: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """With a lens that is straightened, over several chunks and a short last one."""
    lens = (-0.1, 0.01, 0.0, 0.0, 0.0)
    spec = SequenceSpec("rooms", frames=FRAMES, width=64, height=48, distortion=lens)
    write_bag(generate(spec, seed=4), tmp_path / "bag")
    checkpoint = small_checkpoint(tmp_path / "small.safetensors", carried={"height": [0.2, 1.2]})
    words = ["replay", str(tmp_path / "bag"), "--model", str(checkpoint), "--resolution", "32x24"]
    words += ["--chunk-size", "10", "--overlap", "2", "--alignment", "se3"]
    words += asked
    words += ["--cloud-min-confidence", "0", "--cloud-edge-tolerance", "0"]
    assert main([*words, "--core", "--out", str(tmp_path / "core")]) == 0
    assert main([*words, "--out", str(tmp_path / "node")]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.count(f"{FRAMES} poses of {FRAMES} images") == 2
    (core,), (node,) = ((tmp_path / name).iterdir() for name in ("core", "node"))
    made, expected = read_tum(node / "trajectory.txt"), read_tum(core / "trajectory.txt")
    assert made.stamps == expected.stamps
    assert len(set(made.segments)) == 1
    from_start = inverse(expected.T_map_camera[:1]) @ expected.T_map_camera  # where the node's map begins
    # The mounting went through a message, and is in float32 where turns are weighed against slides.
    np.testing.assert_allclose(made.T_map_camera, from_start, atol=1e-6 if "wheels" in asked else 1e-7)
    seen, all_points = read_ply(node / "cloud.ply"), read_ply(core / "cloud.ply")
    assert 0 < len(seen) <= len(all_points), "the points of the last short chunk come after the map is saved"
    if unlike:
        assert main([*words, *unlike, "--core", "--out", str(tmp_path / "other")]) == 0
        (other,) = (tmp_path / "other").iterdir()
        assert not np.allclose(
            read_tum(other / "trajectory.txt").T_map_camera, expected.T_map_camera, atol=1e-3
        )
    log = (node / "node.log").read_text()
    assert "lost" not in log
    assert "nobody publishes /clock" not in log


def test_what_the_node_warned_of_is_told(
    ros_domain: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (64, 48), (number, 90, 40)).save(tmp_path / f"images/{number}.png")
    checkpoint = small_checkpoint(tmp_path / "small.safetensors")
    words = ["replay", str(tmp_path / "images"), "--model", str(checkpoint), "--resolution", "32x24"]
    words += ["--chunk-size", "4", "--overlap", "1", "--alignment", "se3", "--field-of-view", "80"]
    words += ["--cloud-min-confidence", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "camera_unknown: " in said.err
    assert "6 poses of 6 images" in said.out, "also where no point is sure enough for the map"
    assert "and the map is empty" in said.out


def test_without_a_mounting_there_are_no_wheels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images/0.png")
    for way in ([], ["--core"]):
        assert (
            main(["replay", str(tmp_path / "images"), "--motion", "wheels", "--alignment", "se3", *way]) == 2
        )
        assert "how the camera is mounted on the vehicle" in capsys.readouterr().err


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def listening(log: Path) -> None:
    """Waits until the node of that log does."""
    until(lambda: log.exists() and LISTENING in log.read_text())


def test_nobody_elses_node_hears_a_replay(ros_domain: int, tmp_path: Path) -> None:
    """A robot's would take its images for the camera's, and stop when the replay does."""
    from loger_ros.ros.child import Child
    from loger_ros.ros.player import PlayerError
    from loger_ros.ros.replay import replay

    (tmp_path / "out").mkdir()
    (tmp_path / "out/trajectory.txt").write_text("of a replay before")
    robots = Child("loger_ros.ros.node", {}, tmp_path / "robot.log")
    try:
        listening(tmp_path / "robot.log")
        with pytest.raises(PlayerError, match=r"there is .*ROS_DOMAIN_ID"):
            replay([], None, tmp_path / "out", {})
        assert robots.code is None
    finally:
        robots.stop()
    assert (tmp_path / "out/trajectory.txt").read_text() == "of a replay before"


def test_ctrl_c_ends_a_replay_in_good_order(ros_domain: int, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number:02}.png")
    checkpoint = small_checkpoint(tmp_path / "small.safetensors")
    words = ["replay", str(tmp_path / "images"), "--model", str(checkpoint), "--resolution", "32x24"]
    words += ["--chunk-size", "2", "--overlap", "1", "--speed", "0.2", "--out", str(tmp_path / "out")]  # 20 s
    log = tmp_path / "out" / f"{tmp_path.name}_images" / "node.log"
    with subprocess.Popen([sys.executable, "-m", "loger_ros", *words], stderr=subprocess.PIPE) as running:
        listening(log)
        until(lambda: len(read_journal(log.parent / "trajectory.txt")) > 0)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said.decode()
    assert b"stopped" in said
    assert b"Traceback" not in said
    assert "Traceback" not in log.read_text()
    assert len(read_tum(log.parent / "trajectory.txt")) >= 1, "what the node knew is on disk"


def test_a_node_that_cannot_start_is_told(ros_domain: int, tmp_path: Path) -> None:
    from loger_ros.ros.player import PlayerError
    from loger_ros.ros.replay import replay

    with pytest.raises(PlayerError, match=r"code 2(.|\n)*chunk_size"):
        replay([], None, tmp_path / "out", {"stream.chunk_size": 0})
