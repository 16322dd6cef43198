"""What the documentation shows, run as it is written or held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.point_files import read_ply
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.interface import PUBLISHED, SUBSCRIBED
from loger_ros.world import SequenceSpec, generate

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.S)


def test_the_python_example_makes_a_map_and_a_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kind = {"camera_height": 0.3, "camera_pitch": 10.0, "camera_forward": 0.1, "hfov": 70.0}
    spec = SequenceSpec("rooms", "robot", frames=8, width=640, height=480, **kind)
    sequence = generate(spec, seed=3, index=0)
    frames = [(frame.stamp, frame.image) for frame in sequence.frames()]
    (example,) = blocks("python.md", "python")
    exec(compile(example, "python.md", "exec"), {"frames": frames})
    way = read_journal(tmp_path / "trajectory.tum")
    assert list(way.stamps) == [stamp for stamp, _ in frames]
    assert len(read_ply(tmp_path / "map.ply")) > 1000
    assert len(capsys.readouterr().out.splitlines()) == len(frames)


def test_the_parameters_of_the_set_ups_are_accepted() -> None:
    for text in blocks("robot.md", "yaml"):
        tree: dict[str, dict[str, object]] = {}
        for name, value in yaml.safe_load(text)["/**"]["ros__parameters"].items():
            section, setting = name.split(".")
            tree.setdefault(section, {})[setting] = value
        NodeConfig.from_dict(tree)


def test_the_table_of_topics_is_that_of_the_interface() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| (\w+)/(\w+) \|[^|]*\| ([^|]+) \|$", (DOCS / "robot.md").read_text(), re.M
    )
    said = {(name, f"{package}/msg/{kind}", qos) for name, package, kind, qos in rows}
    known = {
        (
            topic.name,
            topic.type,
            f"{'reliable' if topic.reliable else 'best effort'}, {topic.depth}"
            + ", latched" * topic.transient_local,
        )
        for topic in (*PUBLISHED, *SUBSCRIBED)
    }
    assert said == known
