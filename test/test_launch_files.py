"""Launch files: run under ROS's launch where it is installed, and under a stand-in everywhere."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from loger_ros.share import share_directory, share_file

LAUNCH_FILES = sorted(path.name for path in (share_directory() / "launch").glob("*.launch.py"))


class Recorded(SimpleNamespace):
    """Stands for any action or substitution of launch; remembers what it was made with."""

    def __init__(self, *positional: object, **named: object) -> None:
        super().__init__(positional=positional, **named)


@pytest.fixture
def launch_stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Recorded]]:
    kinds = {
        name: type(name, (Recorded,), {})
        for name in (
            *("LaunchDescription", "DeclareLaunchArgument", "SetEnvironmentVariable", "IfCondition"),
            *("LaunchConfiguration", "Node"),
        )
    }
    for name in (
        "launch",
        "launch.actions",
        "launch.conditions",
        "launch.substitutions",
        "launch_ros.actions",
    ):
        module = ModuleType(name)
        vars(module).update(kinds)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "launch_ros", ModuleType("launch_ros"))
    return kinds


def described(name: str) -> list:
    return runpy.run_path(str(share_file(f"launch/{name}")))["generate_launch_description"]().positional[0]


def test_there_is_a_launch_file() -> None:
    assert "loger.launch.py" in LAUNCH_FILES


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_it_declares_each_argument_it_uses_and_describes_it(name: str, launch_stand_in: dict) -> None:
    entities = described(name)
    declared = {
        entity.positional[0]: entity
        for entity in entities
        if isinstance(entity, launch_stand_in["DeclareLaunchArgument"])
    }
    for argument, entity in declared.items():
        assert entity.description.endswith("."), argument
        assert isinstance(entity.default_value, str), argument
    used = {value.positional[0] for value in found(entities, launch_stand_in["LaunchConfiguration"])}
    assert used == set(declared)


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_it_starts_programs_that_exist(name: str, launch_stand_in: dict) -> None:
    setup = (Path(__file__).parents[1] / "setup.py").read_text()
    ours = [node for node in found(described(name), launch_stand_in["Node"]) if node.package == "loger_ros"]
    assert ours
    for node in ours:
        assert f'"{node.executable} = loger_ros.' in setup


def test_nodes_get_the_profile_for_large_messages(
    launch_stand_in: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loger_ros.ros.dds_profile.ROOM", 0)
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    entities = described("loger.launch.py")
    (variable,) = found(entities, launch_stand_in["SetEnvironmentVariable"])
    assert variable.positional[0].endswith("_DEFAULT_PROFILES_FILE")
    assert Path(variable.positional[1]).is_file()
    position = {type(entity).__name__: index for index, entity in reversed(list(enumerate(entities)))}
    assert position["SetEnvironmentVariable"] < position["Node"]


def found(node: object, kind: type) -> list:
    """All of one kind, wherever they are inside."""
    if isinstance(node, Recorded):
        inside = [hit for value in vars(node).values() for hit in found(value, kind)]
        return [node, *inside] if isinstance(node, kind) else inside
    if isinstance(node, dict):
        return [hit for value in node.values() for hit in found(value, kind)]
    if isinstance(node, list | tuple):
        return [hit for value in node for hit in found(value, kind)]
    return []


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="ROS's launch is not on PyPI")
@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_launch_itself_accepts_it(name: str) -> None:
    from launch import LaunchContext, LaunchDescription

    description = runpy.run_path(str(share_file(f"launch/{name}")))["generate_launch_description"]()
    assert isinstance(description, LaunchDescription)
    names = {argument.name for argument in description.get_launch_arguments()}
    assert "rviz" in names
    for argument in description.get_launch_arguments():
        argument.execute(LaunchContext())
