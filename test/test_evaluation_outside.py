"""Outside of the training range: the same ways, with one thing changed at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from networks import small_model

from loger_ros.cli import main
from loger_ros.evaluation.assessment import outside as part
from loger_ros.training.trainer import write_checkpoint
from loger_ros.world import generate
from loger_ros.world.sequences import SequenceSpec


def test_every_condition_goes_the_same_way_with_one_thing_changed(monkeypatch):
    some = {
        name: part.CONDITIONS[name]
        for name in (part.INSIDE, "camera 0.125 m high", "shaking by 1 degree", "camera 0.5 m ahead")
    }
    monkeypatch.setattr(part, "CONDITIONS", some)
    inside, low, shaking, ahead = part.ways(replace(part.SPEC, frames=40, width=16, height=12), 9300).values()
    assert inside.mount.height == 0.5
    assert low.mount.height == 0.125
    ground = inside.T_world_camera[:, :2, 3]
    assert np.ptp(ground, axis=0).max() > 0.5
    for other in (low, shaking):
        np.testing.assert_allclose(other.T_world_camera[:, :2, 3], ground)
    assert ahead.mount.forward == 0.5
    reach = np.linalg.norm((ahead.T_world_camera - inside.T_world_camera)[:, :2, 3], axis=1)
    np.testing.assert_allclose(reach, 0.5 - inside.mount.forward, atol=1e-6)
    turns = [np.abs(np.diff(way.T_world_camera[:, 2, 2])).mean() for way in (inside, shaking)]
    assert turns[1] > 3 * turns[0]


def test_the_command_scores_every_condition(tmp_path, monkeypatch):
    names = (part.INSIDE, "every second frame", "three frames of ten lost", "field of view 50 degrees")
    monkeypatch.setattr(part, "CONDITIONS", {name: part.CONDITIONS[name] for name in names})
    monkeypatch.setattr(part, "PLACES", ("rooms", "corridor"))
    checkpoint = tmp_path / "small.safetensors"
    taught = {"chunk_size": 4, "overlap": 1, "alignment": "se3", "field_of_view": 70, "pitch": 10}
    write_checkpoint(small_model(), checkpoint, taught)
    options = ["--size", "16x12", "--frames", "40", "--sets", "robot_rooms", "--parts", "outside"]
    assert main(["assess", str(checkpoint), *options, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "table.json").read_text())["robot"]["outside"]
    assert list(found) == list(names)
    rows = [found[name]["films"]["corridor"] for name in names]
    assert [row["frames"] for row in rows[:2]] == [40, 20]
    assert 20 <= rows[2]["frames"] < 36
    assert [row["path"] for row in rows] == pytest.approx([rows[0]["path"]] * 4, rel=0.2)
    table = (tmp_path / "table.md").read_text()
    assert "| field of view 50 degrees |" in table
    assert "rooms, corridor; 40 frames each" in table


def test_a_fixed_shake_leaves_the_way_as_it_was():
    drawn, still = (generate(SequenceSpec(frames=30, camera_shake=shake), 3) for shake in (None, 0.0))
    np.testing.assert_allclose(still.T_world_camera[:, :2, 3], drawn.T_world_camera[:, :2, 3])
    assert still.mount.shake == 0
