"""A model is judged by the stream that robots run, on whole sequences; blind guesses score as they must."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from networks import small_model

from loger_ros.cli import main
from loger_ros.cli.assess import Examination
from loger_ros.config import StreamConfig
from loger_ros.evaluation.assessment.assess import assess, drift, ride, score, stream_settings
from loger_ros.evaluation.assessment.films import Film, film, set_films, without_border
from loger_ros.evaluation.assessment.guesses import arc, constant, still
from loger_ros.evaluation.assessment.opponents import baselines
from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.training.trainer import write_checkpoint
from loger_ros.world import SequenceSpec, generate


@pytest.fixture(scope="module")
def short() -> Film:
    sequence = generate(SequenceSpec("rooms", "robot", frames=12, width=32, height=24), seed=2)
    return film("short", sequence, (16, 12), fine=True)


def test_a_film_holds_every_frame_at_the_network_s_size(short):
    assert short.images.shape == (12, 12, 16, 3)
    assert short.depth.shape == (12, 12, 16)
    assert short.fine.shape == (12, 24, 32)
    whole = short.fine.reshape(12, 12, 2, 16, 2).mean((2, 4))
    grey = short.images @ np.array([0.299, 0.587, 0.114])
    assert np.abs(whole - grey).max() < 2  # rounded twice
    assert short.matrix[0, 0] == pytest.approx(short.fine_matrix[0, 0] / 2)


def test_scores_of_a_model_are_those_of_its_poses_in_metres(short):
    model = small_model().requires_grad_(False)
    found = assess(model, short, chunk_size=4, overlap=1, alignment="se3")
    assert found.frames == 12
    assert all(np.isfinite(value) for value in dataclasses.astuple(found))
    assert found.depth > 0.05  # random weights know no depth
    settings = stream_settings(model, short, chunk_size=4, overlap=1, alignment="se3")
    assert settings.unit == short.height
    in_metres = stream_settings(model, short, chunk_size=4, overlap=1, alignment="se3", in_heights=False)
    by_height, plain = (ride(model, short, chosen).poses for chosen in (settings, in_metres))
    np.testing.assert_allclose(by_height[:, :3, 3], short.height * plain[:, :3, 3], atol=1e-6)
    assert found.ate_se3 == pytest.approx(score(by_height, short.T_world_camera, metric=True).ate_se3)


def test_what_the_checkpoint_recommends_holds_unless_something_else_is_asked_for(short):
    model = small_model()
    model.recommended = {"chunk_size": 5, "overlap": 3, "alignment": "sim3", "resolution": "16x12"}
    assert stream_settings(model, short).chunk_size == 5
    asked = stream_settings(model, short, chunk_size=2, alignment=None)
    assert (asked.chunk_size, asked.overlap, asked.alignment) == (2, 1, "sim3")


def test_blind_guesses():
    truth = np.tile(np.eye(4), (40, 1, 1))
    angle = np.linspace(0, 2.5, 40)
    truth[:, 0, 3], truth[:, 1, 3] = 3 * np.sin(angle), 3 * (1 - np.cos(angle))
    turned = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
    truth[:, :2, :2] = turned.reshape(-1, 2, 2)
    path = path_length(truth)
    blind = score(still(truth), truth, metric=True)
    assert blind.translation == pytest.approx(path / 39)
    assert blind.end == pytest.approx(100 * np.linalg.norm(truth[-1, :3, 3]) / path)
    for guess in (constant, arc):  # an arc at constant speed is what both can do
        assert score(guess(truth), truth, metric=True).ate_se3 < 0.1
    assert blind.ate_se3 > 10
    bent = truth.copy()
    bent[20:, 1, 3] = 2 * bent[19, 1, 3] - bent[20:, 1, 3]
    assert 1 < score(arc(bent), bent, metric=True).ate_se3 < score(still(bent), bent, metric=True).ate_se3


def test_drift_grows_with_length():
    truth = np.tile(np.eye(4), (400, 1, 1))
    truth[:, 0, 3] = 0.1 * np.arange(400)
    made = truth.copy()
    made[:, 1, 3] = 1e-5 * np.arange(400) ** 2  # a steady turn
    errors = [drift(made, truth, length, "se3") for length in (50, 100, 200, 400)]
    assert all(later > 1.5 * earlier for earlier, later in pairwise(errors))
    assert np.isnan(drift(made, truth, 401, "se3"))


def test_a_full_disk_leaves_the_older_table(tmp_path, monkeypatch):
    examination = Examination.__new__(Examination)
    examination.result, examination.args = {}, SimpleNamespace(out=tmp_path)
    monkeypatch.setattr("loger_ros.evaluation.assessment.report.page", str)
    examination._keep("robot", "speed", 1)
    monkeypatch.setattr("os.fsync", Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        examination._keep("robot", "speed", 2)
    assert json.loads((tmp_path / "table.json").read_text()) == {"robot": {"speed": 1}}
    assert {file.name for file in tmp_path.iterdir()} == {"table.json", "table.md"}


def test_errors_know_their_alignment():
    rng = np.random.default_rng(0)
    truth = np.tile(np.eye(4), (20, 1, 1))
    truth[:, :3, 3] = rng.normal(size=(20, 3)).cumsum(0)
    moved = truth.copy()
    moved[:, :3, 3] = 2 * truth[:, :3, 3] + 5
    assert absolute_error(moved, truth, "sim3") < 1e-9
    assert absolute_error(moved, truth, "se3") > 0.1
    assert absolute_error(moved, truth, "none") > absolute_error(moved, truth, "se3")
    degrees, distances = step_errors(moved, truth)
    assert degrees.max() < 1e-6
    np.testing.assert_allclose(distances, np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1))


def test_fresh_seeds_are_other_places_of_the_same_kind():
    named, fresh = (next(set_films("street", (16, 12), "cpu", seed=seed, frames=2)) for seed in (None, 5))
    assert (named.motion, len(named)) == (fresh.motion, len(fresh)) == ("robot", 2)
    assert named.height != fresh.height


def test_the_command_writes_the_table(tmp_path, capsys):
    checkpoint = tmp_path / "small.safetensors"
    write_checkpoint(small_model(), checkpoint, {"chunk_size": 4, "overlap": 1, "alignment": "se3"})
    options = ["--size", "16x12", "--frames", "40", "--memory-sequences", "2", "--memory-frames", "100"]
    where = ["--out", str(tmp_path / "out"), "--sets", "handheld", "--speed-threads", "1"]
    assert main(["assess", str(checkpoint), *options, *where]) == 0
    table = (tmp_path / "out/table.md").read_text()
    for wanted in (
        "against zero motion",
        "essential matrix, 16 wide",
        "drift with memory",
        "chunks of 2, 4, 8 frames, all sequences",
        "short last chunks against",
        "its median",
        "1 thread",
    ):
        assert wanted in table
    result = json.loads((tmp_path / "out/table.json").read_text())["6-DoF"]
    chunks = result["chunks"]
    assert set(chunks["one of each set"]) == {"2", "3", "4", "6", "8", "12", "16"}
    assert set(chunks["all"]) == {"2", "4", "8"}
    assert [len(row["films"]) for row in chunks["all"].values()] == [4, 4, 4]
    assert list(chunks["one of each set"]["8"]["films"]) == ["handheld 0"]
    assert chunks["all"]["4"] == result["accuracy"], "what is known already is not measured again"
    assert len(result["memory"]["films"]) == 2
    assert "handheld 0 (40 frames)" in capsys.readouterr().out
    again = [*options[:4], "--parts", "accuracy", "baselines", *where, "--out", str(tmp_path / "again")]
    earlier = ["--baselines-from", str(tmp_path / "out/table.json")]
    assert main(["assess", str(checkpoint), *again, *earlier]) == 0
    assert (
        json.loads((tmp_path / "again/table.json").read_text())["6-DoF"]["baselines"] == result["baselines"]
    )
    alone = [*options[:4], "--parts", "baselines", *where, "--out", str(tmp_path / "alone"), *earlier]
    assert main(["assess", str(checkpoint), *alone]) == 0
    lines = (tmp_path / "alone/table.md").read_text().splitlines()
    (row,) = (line for line in lines if line.startswith("| zero motion |"))
    assert row.endswith("|  |"), "nothing to compare it with"
    assert not any("The model on each sequence" in line for line in lines)
    assert main(["assess", str(checkpoint), *again, "--frames", "41", *earlier]) == 1
    assert "no baselines of the same frames" in capsys.readouterr().err
    other = tmp_path / "other.safetensors"
    write_checkpoint(small_model(), other, {"chunk_size": 4, "overlap": 1, "field_of_view": 60})
    assert main(["assess", str(other), *again, *earlier]) == 1, "what they saw was another view"
    assert "no baselines of the same frames" in capsys.readouterr().err


def test_a_robot_is_judged_on_wheels_too(tmp_path):
    checkpoint = tmp_path / "small.safetensors"
    write_checkpoint(small_model(), checkpoint, {"chunk_size": 4, "overlap": 1, "alignment": "se3"})
    options = ["--size", "16x12", "--frames", "40", "--parts", "accuracy", "chunks", "--sets", "street"]
    assert main(["assess", str(checkpoint), *options, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "table.json").read_text())["robot"]
    on_wheels = result["chunks"]["all, on wheels"]
    assert on_wheels["4"] == result["on wheels"]
    assert set(on_wheels) == {"2", "4", "8"}
    for size, row in on_wheels.items():
        assert row["mean"]["rotation"] != result["chunks"]["all"][size]["mean"]["rotation"]
        assert row["mean"]["depth"] == result["chunks"]["all"][size]["mean"]["depth"], (
            "depth is the network's"
        )
    table = (tmp_path / "table.md").read_text()
    assert "| ATE, % of path, on wheels |" in table
    assert "| **model, on wheels** |" in table
    assert "| the same, on wheels |" in table


def test_a_model_that_cannot_be_found_is_one_message(tmp_path, capsys):
    assert main(["assess", str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1]", "5", "no table", "\xff"])
def test_baselines_from_what_is_no_table_are_one_message(content, tmp_path, capsys):
    table = tmp_path / "table.json"
    table.write_text(content, encoding="latin-1")
    assert main(["assess", "tiny", "--baselines-from", str(table), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"loger assess: {table} is not the table of an assessment")
    assert said.err.count("\n") == 1
    assert said.out == "", "nothing was rendered"


def test_a_film_is_shown_at_the_angle_that_the_network_was_taught(short):
    sequence = generate(SequenceSpec("rooms", "robot", frames=12, width=32, height=24, hfov=60), seed=2)
    plain = film("plain", sequence, (16, 12), fine=True)
    wide = film(
        "wide",
        sequence,
        (16, 12),
        fine=True,
        taught=StreamConfig(field_of_view=90, pitch=sequence.mount.pitch),
    )
    assert plain.seen is plain.images
    np.testing.assert_array_equal(wide.images, plain.images)
    assert wide.seen.shape == wide.images.shape
    assert not wide.seen[:, 0].any(), "a narrow camera leaves a black border"
    assert np.isinf(wide.depth[:, 0]).all()
    middle = (slice(None), slice(5, 7), slice(7, 9))
    assert np.median(np.abs(wide.depth[middle] / plain.depth[middle] - 1)) < 0.1
    assert next(wide.frames()).image is not None
    np.testing.assert_allclose(wide.turn, np.eye(4), atol=1e-9)
    down = film(
        "down",
        sequence,
        (16, 12),
        fine=True,
        taught=StreamConfig(field_of_view=90, pitch=sequence.mount.pitch + 10),
    )
    assert np.degrees(np.arcsin(down.turn[2, 1])) == pytest.approx(10)
    nearer = down.depth[:, 6, 4:12] / wide.depth[:, 6, 4:12]
    assert np.median(nearer) < 0.95, "it looks further down"


def test_the_border_of_a_view_is_left_out():
    rows, columns = np.mgrid[:20, :30]
    assert without_border(np.ones((20, 30), bool)) == (slice(0, 20), slice(0, 30))
    assert without_border((rows >= 3) & (columns < 25)) == (slice(3, 20), slice(0, 25))
    inside = without_border(np.abs(columns - 15) + rows < 16)  # a triangle on its base
    assert (np.abs(columns - 15) + rows < 16)[inside].all()
    assert (inside[0].stop - inside[0].start) * (inside[1].stop - inside[1].start) > 100
    assert without_border(np.zeros((4, 4), bool)) == (slice(0), slice(0))


def test_classical_odometry_makes_metres_of_what_the_network_sees():
    spec = SequenceSpec(
        "rooms", "robot", 36, width=192, height=144, hfov=64, camera_height=0.5, camera_pitch=16
    )
    sequence = generate(spec, seed=31)
    taught = StreamConfig(field_of_view=70, pitch=10)
    cut = film("cut", sequence, (96, 72), fine=True, taught=taught)
    assert cut.seen_pitch == pytest.approx(10)
    assert not cut.seen[:, :3].any(), "the lens did not see so far up"
    assert cut.seen[0][cut.clear].min(-1).min() > 0
    assert cut.clear[0].start > 3
    said: list[str] = []
    found = baselines([cut], said.append)
    own, whole = (found[f"KLT + floor plane, {look}"]["mean"] for look in ("the network's view", "96 wide"))
    assert own["ate_se3"] < 4
    assert own["rotation"] < 2 * whole["rotation"] + 0.05
    for look, free in (("the network's view", own), ("96 wide", whole)):
        on_wheels = found[f"KLT + floor plane, {look}, on wheels"]["mean"]
        assert on_wheels["ate_se3"] < 1.1 * free["ate_se3"]
        assert on_wheels["ate_se3"] != free["ate_se3"]
