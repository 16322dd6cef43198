"""The files about the parameters against the dataclasses that the parameters are made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from loger_ros.cli import main
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.reference import entries, parameters_markdown, parameters_yaml
from loger_ros.share import share_directory, share_file

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted((share_directory() / "config" / "presets").glob("*.yaml"))
OF_THE_NODE_ITSELF = {"autostart"}  # no setting of the stream, so not in NodeConfig


def everything_set(text: str) -> str:
    """The file with no setting commented out."""
    return re.sub(r"^( *)# ([a-z_]+\.[a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)


def parameters_in(text: str) -> dict:
    return yaml.safe_load(text)["/**"]["ros__parameters"]


def as_config(parameters: dict) -> NodeConfig:
    tree: dict[str, dict] = {}
    for name, value in parameters.items():
        if name not in OF_THE_NODE_ITSELF:
            section, setting = name.split(".")
            tree.setdefault(section, {})[setting] = value
    return NodeConfig.from_dict(tree)


@pytest.mark.parametrize(
    ("file", "made", "form"),
    [("config/loger.yaml", parameters_yaml, "yaml"), ("docs/parameters.md", parameters_markdown, "markdown")],
)
def test_a_file_is_as_the_code_says(file: str, made: object, form: str) -> None:
    assert (ROOT / file).read_text() == made(), f"renew it: loger parameters {form} > {file}"


def test_the_file_holds_every_parameter_with_its_default() -> None:
    parameters = parameters_in(everything_set(parameters_yaml()))
    names = {f"{section}.{name}" for section, group in NodeConfig().to_dict().items() for name in group}
    assert set(parameters) - OF_THE_NODE_ITSELF == names
    assert as_config(parameters) == NodeConfig()


def test_as_it_is_the_file_leaves_every_choice_to_the_checkpoint() -> None:
    assert set(parameters_in(share_file("config/loger.yaml").read_text())) == OF_THE_NODE_ITSELF


def test_every_parameter_is_described() -> None:
    every = [entry for _, items in entries() for entry in items]
    assert all(len(entry.description) > 10 for entry in every)
    page = parameters_markdown()
    assert all(f"| `{entry.name}` |" in page for entry in every)


def test_there_are_presets() -> None:
    assert [path.stem for path in PRESETS] == ["jetson", "workstation"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_holds_settings_that_work(path: Path) -> None:
    config = as_config(parameters_in(path.read_text()))
    assert config.model.device == "cuda"
    assert config.model.dtype == "auto"
    size = config.stream.size
    assert size == "auto" or not (size[0] % 14 or size[1] % 14)  # whole patches


@pytest.mark.parametrize("text", [everything_set(parameters_yaml()), *(path.read_text() for path in PRESETS)])
def test_ros_itself_reads_the_file(text: str, tmp_path: Path, ros_domain: int) -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
    from rclpy.context import Context

    file = tmp_path / "given.yaml"
    file.write_text(text)
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        node = rclpy.create_node(
            "reader",
            context=context,
            cli_args=["--ros-args", "--params-file", str(file)],
            automatically_declare_parameters_from_overrides=True,
        )
        given = parameters_in(text)
        read = {name: node.get_parameter(name).value for name in given}
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    assert {name: list(value) if hasattr(value, "tolist") else value for name, value in read.items()} == given


def test_the_command_prints_either(capsys: pytest.CaptureFixture) -> None:
    assert main(["parameters"]) == 0
    assert capsys.readouterr().out == parameters_yaml()
    assert main(["parameters", "markdown"]) == 0
    assert capsys.readouterr().out == parameters_markdown()
