"""Parameters as the node takes them: wrong ones, misspelt ones, those that the checkpoint has a say in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from loger_ros.config import CloudConfig, ConfigError  # noqa: E402
from loger_ros.ros.config import NodeConfig  # noqa: E402
from loger_ros.ros.node import main  # noqa: E402
from loger_ros.ros.parameters import Parameters  # noqa: E402


@pytest.fixture
def chooser(ros_domain: int) -> Iterator[Callable[..., Any]]:
    """Makes a node that was given these parameters, and its Parameters."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    nodes = []

    def choose(*given: str) -> Any:
        words = [word for parameter in given for word in ("-p", parameter)]
        nodes.append(rclpy.create_node("chooser", context=context, cli_args=["--ros-args", *words]))
        return nodes[-1], Parameters(nodes[-1], lambda config: None)

    yield choose
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_small_images_get_the_cloud_settings_that_suit_them_unless_the_user_says_otherwise(
    chooser: Callable[..., Any],
) -> None:
    node, parameters = chooser("cloud.stride:=3")
    small = parameters.recommend({"resolution": "56x42"}).cloud
    told = node.get_parameter("cloud.edge_tolerance").value
    large = parameters.recommend({"resolution": "574x434"}).cloud
    assert (small.stride, small.edge_tolerance, small.min_confidence) == (3, 0.0, 0.5)
    assert told == 0.0
    assert large == CloudConfig(stride=3)


def test_what_goes_with_the_checkpoint_need_not_go_with_the_defaults(chooser: Callable[..., Any]) -> None:
    """The overlap is 3 unless the checkpoint says otherwise."""
    _, parameters = chooser("stream.chunk_size:=2")
    with pytest.raises(ConfigError, match="must be less than stream"):
        parameters.recommend({})
    stream = parameters.recommend({"overlap": 1, "chunk_size": 4}).stream
    assert (stream.chunk_size, stream.overlap) == (2, 1)


def test_a_camera_that_nobody_placed_is_told(chooser: Callable[..., Any]) -> None:
    def assumed(*given: str) -> str:
        _, parameters = chooser(*given)
        return parameters.assumed()

    assert not assumed()
    assert "at the origin of base_link" in assumed("frames.extrinsic:=parameters")
    assert not assumed("frames.extrinsic:=parameters", "frames.camera_xyz:=[0.0, 0.0, 0.0]")


def test_a_rate_is_compared_with_the_gap_that_was_given(chooser: Callable[..., Any]) -> None:
    _, parameters = chooser("queue.max_rate:=0.05", "stream.max_gap:=60.0")
    assert parameters.recommend({}).queue.max_rate == 0.05
    with pytest.raises(ConfigError, match="every pause between frames into a gap"):
        chooser("queue.max_rate:=0.05")


def test_a_file_of_all_parameters_can_be_loaded_for_the_sake_of_a_few(chooser: Callable[..., Any]) -> None:
    node, parameters = chooser("input.cameras:=[front]", "frames.camera_xyz:=[0.1, 0.0, 0.4]")
    parameters.recommend({})
    parameters.configured = True
    names = node.get_parameters_by_prefix("")
    known = [node.get_parameter(name) for name in names if name.split(".")[0] in NodeConfig().to_dict()]
    received = [Parameter.from_parameter_msg(one.to_parameter_msg()) for one in known]
    assert all(result.successful for result in node.set_parameters(received))
    for name, value in (
        ("stream.chunk_size", 5),
        ("input.undistort", 1),
        ("frames.camera_xyz", [0.1, 0.0, 0.5]),
    ):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert f"{name} is read when the node is configured" in result.reason


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("stream.chunk_size:=many", "stream.chunk_size is 'many'; it must be a whole number"),
        ("stream.chunk_sise:=8", "stream.chunk_sise is not a setting; did you mean stream.chunk_size?"),
        ("stream.resolution:=abc", "stream.resolution is 'abc'; it must be auto, native or WIDTHxHEIGHT"),
        ("frames.odom:=map", "frames.odom is 'map'; it must differ"),
        ("frames.camera_rpy:=[0.0, 10.0, 0.0]", "must be in radians"),
        ("input.cameras:=[a, a]", "different names"),
        ("autostart:=perhaps", "autostart"),
    ],
)
def test_wrong_parameters_end_it_with_one_line(
    parameter: str, reason: str, ros_domain: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--ros-args", "-p", parameter]) == 2
    said = capfd.readouterr().err
    assert reason in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("program", ["loger_ros.ros.node", "loger_ros.ros.synthetic.camera"])
def test_words_that_ros_does_not_take_are_refused(program: str, ros_environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", program, "--image", "/front", "--ros-args", "-r", "a:=b"]
    ran = subprocess.run(words, env=ros_environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "--image has no effect: give topics and parameters after --ros-args" in ran.stderr


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_who_asks_for_help_gets_no_node(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([asked]) == 0
    assert "loger parameters yaml" in capsys.readouterr().out


def test_a_list_of_mixed_numbers_in_a_file_ends_it_with_the_cure(tmp_path: Path, ros_domain: int) -> None:
    """ROS itself refuses it, before our parameters are asked."""
    file = tmp_path / "mixed.yaml"
    file.write_text("/**: {ros__parameters: {frames.camera_xyz: [0.1, 0, 0.4]}}")
    with pytest.raises(SystemExit, match=r"line_num 1.*0\.0 beside 0\.1"):
        main(["--ros-args", "--params-file", str(file)])
