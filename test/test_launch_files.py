"""Launch files: run under ROS's launch where it is installed, and under a stand-in everywhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from loger_ros.ros.config import NodeConfig
from loger_ros.ros.interface import LISTENING, PATIENCE, PUBLISHED
from loger_ros.ros.synthetic.settings import Settings
from loger_ros.share import share_directory, share_file

LAUNCH_FILES = sorted(path.name for path in (share_directory() / "launch").glob("*.launch.py"))


class Recorded(SimpleNamespace):
    """Stands for any action or substitution of launch; remembers what it was made with."""

    def __init__(self, *positional: object, **named: object) -> None:
        super().__init__(positional=positional, **named)

    def perform(self, context: dict) -> str:
        """A LaunchConfiguration's value; the arguments as text are our context."""
        name = self.positional[0]
        return context.get(name, self.default) if hasattr(self, "default") else context[name]


@pytest.fixture
def launch_stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Recorded]]:
    names = {
        "launch": ("LaunchContext", "LaunchDescription"),
        "launch.actions": (
            *("DeclareLaunchArgument", "SetEnvironmentVariable", "OpaqueFunction"),
            *("ExecuteProcess", "IncludeLaunchDescription", "RegisterEventHandler"),
        ),
        "launch.conditions": ("IfCondition",),
        "launch.event_handlers": ("OnProcessIO",),
        "launch.events": (),
        "launch.events.process": ("ProcessIO",),
        "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
        "launch.substitutions": ("LaunchConfiguration",),
        "launch_ros": (),
        "launch_ros.actions": ("Node",),
        "launch_ros.parameter_descriptions": ("ParameterValue",),
    }
    kinds = {kind: type(kind, (Recorded,), {}) for group in names.values() for kind in group}
    for name, group in names.items():
        module = ModuleType(name)
        vars(module).update({kind: kinds[kind] for kind in group})
        monkeypatch.setitem(sys.modules, name, module)
    return kinds


def described(name: str) -> list:
    return runpy.run_path(str(share_file(f"launch/{name}")))["generate_launch_description"]().positional[0]


def arguments_of(entities: list) -> dict[str, str | None]:
    """Name → default; None: it must be given."""
    declared = [entity for entity in entities if type(entity).__name__ == "DeclareLaunchArgument"]
    return {entity.positional[0]: getattr(entity, "default_value", None) for entity in declared}


def with_nodes(entities: list, **given: str) -> list:
    """The entities with those that depend on the values of the arguments."""
    context = {**arguments_of(entities), "bag": "/", **given}  # a bag must be given, and be there
    made = [
        entity
        for function in entities
        if type(function).__name__ == "OpaqueFunction"
        for entity in function.function(context) or []
    ]
    return [*entities, *made]


def test_there_are_the_launch_files() -> None:
    assert LAUNCH_FILES == ["demo.launch.py", "loger.launch.py", "replay.launch.py"]


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_it_declares_each_argument_it_uses_and_describes_it(name: str, launch_stand_in: dict) -> None:
    path = share_file(f"launch/{name}")
    entities = described(name)
    for entity in entities:
        if isinstance(entity, launch_stand_in["DeclareLaunchArgument"]):
            assert entity.description.endswith("."), entity.positional
            assert isinstance(getattr(entity, "default_value", ""), str), entity.positional
    everything = with_nodes(entities)
    used = {value.positional[0] for value in found(everything, launch_stand_in["LaunchConfiguration"])}
    by_name = set(re.findall(r'value\("(\w+)"\)', path.read_text()))
    overridden = set(runpy.run_path(str(path)).get("OVERRIDES", ()))
    assert used | by_name | overridden == set(arguments_of(entities))


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_what_it_hands_on_is_an_argument_there(name: str, launch_stand_in: dict) -> None:
    for include in found(described(name), launch_stand_in["IncludeLaunchDescription"]):
        path = Path(include.positional[0].positional[0])
        assert path.is_file()
        assert {handed for handed, _ in include.launch_arguments} <= set(arguments_of(described(path.name)))


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_it_starts_programs_that_exist(name: str, launch_stand_in: dict) -> None:
    setup = (Path(__file__).parents[1] / "setup.py").read_text()
    entities = with_nodes(described(name))
    ours = [node for node in found(entities, launch_stand_in["Node"]) if node.package == "loger_ros"]
    assert ours or found(entities, launch_stand_in["IncludeLaunchDescription"])
    for node in ours:
        assert f'"{node.executable} = loger_ros.' in setup


def the_node(launch_stand_in: dict, **given: str) -> Recorded:
    entities = with_nodes(described("loger.launch.py"), **given)
    (node,) = (n for n in found(entities, launch_stand_in["Node"]) if n.executable == "loger_node")
    return node


def test_an_empty_argument_overrides_nothing(launch_stand_in: dict) -> None:
    assert the_node(launch_stand_in).parameters == [str(share_file("config/loger.yaml"))]


def test_it_is_started_again_where_that_is_asked_for(launch_stand_in: dict) -> None:
    node = the_node(launch_stand_in)
    assert node.respawn.positional == ("respawn",)
    assert node.respawn_delay > 0
    assert arguments_of(described("loger.launch.py"))["respawn"] == "false"


def test_rviz_goes_by_the_clock_of_the_node(launch_stand_in: dict) -> None:
    for given in ({}, {"use_sim_time": "true"}):
        entities = with_nodes(described("loger.launch.py"), **given)
        (rviz,) = (n for n in found(entities, launch_stand_in["Node"]) if n.executable == "rviz2")
        assert [as_launch_gives_them(p, given) for p in rviz.parameters] == (
            [{"use_sim_time": True}] if given else []
        )


def test_what_may_be_missing_is_started_first(launch_stand_in: dict) -> None:
    """launch gives up where RViz is not installed, and leaves running what it has begun before."""
    started = found(with_nodes(described("loger.launch.py")), launch_stand_in["Node"])
    assert [node.executable for node in started] == ["rviz2", "loger_node"]
    kinds = [type(entity).__name__ for entity in described("demo.launch.py")]
    assert kinds.index("OpaqueFunction") < kinds.index("Node"), "what includes it, before the camera"


def test_an_argument_overrides_the_file_with_a_parameter_of_the_node(launch_stand_in: dict) -> None:
    overrides = runpy.run_path(str(share_file("launch/loger.launch.py")))["OVERRIDES"]
    known = {f"{section}.{name}" for section, group in NodeConfig().to_dict().items() for name in group}
    assert set(overrides.values()) <= {*known, "autostart", "use_sim_time"}
    node = the_node(launch_stand_in, checkpoint="loger", unit="0.4")
    file, given = node.parameters  # ROS takes the later one where both say something
    assert file == str(share_file("config/loger.yaml"))
    assert given["model.checkpoint"] == "loger"


def as_launch_gives_them(parameters: dict, arguments: dict[str, str]) -> dict[str, object]:
    """launch reads the text of a substitution as YAML; text that it gets as such stays text."""

    def read(value: object) -> object:
        return yaml.safe_load(value.perform(arguments)) if isinstance(value, Recorded) else value

    return {name: read(value) for name, value in parameters.items()}


@pytest.mark.parametrize("unit", ["0.4", "1"])
def test_what_launch_makes_of_the_arguments_is_taken_by_the_node(launch_stand_in: dict, unit: str) -> None:
    texts = {
        "checkpoint": "7",
        "output_folder": "2024",
        "device": "cuda:1",
        "extrinsic": "parameters",
        "image_transport": "compressed",
        "autostart": "false",
        "use_sim_time": "true",
    }
    arguments = {**texts, "unit": unit}
    given = as_launch_gives_them(the_node(launch_stand_in, **arguments).parameters[1], arguments)
    assert given.pop("use_sim_time") is True  # ROS's own
    assert given.pop("autostart") is False
    tree: dict[str, dict[str, object]] = {}
    for name, value in given.items():
        section, _, setting = name.partition(".")
        tree.setdefault(section, {})[setting] = value
    config = NodeConfig.from_dict(tree)
    assert (config.stream.unit, config.output.folder, config.model.device) == (float(unit), "2024", "cuda:1")


def test_a_params_file_that_is_none_is_refused_and_home_is_found(
    launch_stand_in: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml is not a file"):
        the_node(launch_stand_in, params_file="~/mine.yaml")
    (tmp_path / "mine.yaml").touch()
    assert the_node(launch_stand_in, params_file="~/mine.yaml").parameters[0] == str(tmp_path / "mine.yaml")


def test_the_node_has_time_to_end(launch_stand_in: dict) -> None:
    assert float(the_node(launch_stand_in).sigterm_timeout) > PATIENCE


def test_topics_of_the_camera_are_remapped(launch_stand_in: dict) -> None:
    node = the_node(launch_stand_in, image="/front/image_raw", camera_info="/front/camera_info")
    assert dict(node.remappings) == {
        "image": "/front/image_raw",
        "image/compressed": "/front/image_raw/compressed",
        "camera_info": "/front/camera_info",
    }


@pytest.mark.parametrize(
    ("image", "camera_info"), [("/front/image_raw", "/front/camera_info"), ("image", "camera_info")]
)
def test_the_calibration_is_looked_for_beside_the_images(
    launch_stand_in: dict, image: str, camera_info: str
) -> None:
    assert dict(the_node(launch_stand_in, image=image).remappings)["camera_info"] == camera_info


def test_the_demo_tells_the_node_how_high_the_camera_is_and_that_it_is_on_wheels(
    launch_stand_in: dict,
) -> None:
    entities = described("demo.launch.py")
    for checkpoint, said in (("tiny", ("0.5", "wheels")), ("loger", ("", "")), ("it's.pt", ("", ""))):
        started = with_nodes(entities, checkpoint=checkpoint)
        (include,) = found(started, launch_stand_in["IncludeLaunchDescription"])
        told = dict(include.launch_arguments)
        unit = told["unit"] and told["unit"].perform({"camera_height": "0.5"})
        assert (unit, told["motion"]) == said
    (camera,) = found(entities, launch_stand_in["Node"])
    settings = set().union(*camera.parameters)
    assert settings <= {field.name for field in fields(Settings)}


def test_a_replay_takes_its_time_from_the_bag(launch_stand_in: dict) -> None:
    entities = described("replay.launch.py")
    assert arguments_of(entities)["bag"] is None
    (player,) = played(entities, bag="/data/bag", namespace="robot")
    assert player.cmd[:8] == ["ros2", "bag", "play", "/data/bag", "--clock", "--rate", "1.0", "--remap"]
    aside = {"/tf:=/recorded/tf", "/robot/odometry:=/recorded/robot/odometry"}
    assert aside < set(player.cmd[8:]), "the robot said all of this then, and the node says it anew"
    assert len(player.cmd[8:]) == len(PUBLISHED)
    (player,) = played(described("replay.launch.py"), bag="/data/bag")
    assert "/odometry:=/recorded/odometry" in player.cmd
    (include,) = found(entities, launch_stand_in["IncludeLaunchDescription"])
    assert dict(include.launch_arguments)["use_sim_time"] == "true"


def played(entities: list, text: str = f"[INFO] [1.2] [loger]: {LISTENING} /image", **given: str) -> list:
    """What begins when a process writes that."""
    (handler,) = [entity for entity in entities if type(entity).__name__ == "RegisterEventHandler"]
    begun = handler.positional[0].on_stderr(SimpleNamespace(text=text.encode()))
    return [action for made in begun or [] for action in made.function({**arguments_of(entities), **given})]


@pytest.mark.parametrize(
    ("given", "said"),
    [({"bag": "/none"}, "bag:=/none does not exist"), ({"start": "soon"}, "start:=soon is not a number")],
)
def test_a_replay_that_cannot_be_is_refused_before_the_node_is_started(
    launch_stand_in: dict, tmp_path: Path, given: dict[str, str], said: str
) -> None:
    first, *_ = found(entities := described("replay.launch.py"), launch_stand_in["OpaqueFunction"])
    assert entities.index(first) < [type(entity).__name__ for entity in entities].index(
        "IncludeLaunchDescription"
    )
    context = {**arguments_of(entities), "bag": str(tmp_path)}
    first.function(context)
    with pytest.raises((FileNotFoundError, ValueError), match=said):
        first.function({**context, **given})


def test_a_replay_begins_once_when_the_node_listens(launch_stand_in: dict) -> None:
    entities = described("replay.launch.py")
    assert not played(entities, "[INFO] [1.1] [loger]: loading", bag="/data/bag")
    assert len(played(entities, bag="/data/bag")) == 1
    assert not played(entities, bag="/data/bag")
    (include,) = found(entities, launch_stand_in["IncludeLaunchDescription"])
    assert dict(include.launch_arguments)["log_level"] == "info"


def test_a_replay_that_begins_late_tells_where_the_camera_sits(launch_stand_in: dict) -> None:
    (first,) = played(described("replay.launch.py"), bag="~/bag", start="5")
    assert first.cmd[3:] == [str(Path("~/bag").expanduser()), "--topics", "/tf_static", "--delay", "2"]
    (player,) = first.on_exit
    assert "--start-offset 5 --remap" in " ".join(player.cmd)


@pytest.mark.parametrize("name", ["loger.launch.py", "demo.launch.py"])
def test_nodes_get_the_profile_for_large_messages(
    name: str, launch_stand_in: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loger_ros.ros.dds_profile.ROOM", 0)
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(variable, raising=False)
    entities = described(name)
    (variable,) = found(entities, launch_stand_in["SetEnvironmentVariable"])
    assert variable.positional[0].endswith("_DEFAULT_PROFILES_FILE")
    assert Path(variable.positional[1]).is_file()
    kinds = [type(entity).__name__ for entity in entities]
    starters = [i for i, kind in enumerate(kinds) if kind in ("Node", "OpaqueFunction")]
    assert kinds.index("SetEnvironmentVariable") < min(starters)


def found(node: object, kind: type) -> list:
    """All of one kind, wherever they are inside."""
    if isinstance(node, Recorded):
        inside = [hit for value in vars(node).values() for hit in found(value, kind)]
        return [node, *inside] if isinstance(node, kind) else inside
    if isinstance(node, dict):
        return [hit for value in node.values() for hit in found(value, kind)]
    if isinstance(node, list | tuple | type({}.items())):
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
        if argument.default_value is not None:
            argument.execute(LaunchContext())
