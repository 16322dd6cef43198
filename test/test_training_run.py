"""Training goes on exactly where it was killed, agrees between processes, and leaves "no motion" behind."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recipes import RECIPE, arguments, command, environment
from safetensors.torch import load_file

from loger_ros.cli import train
from loger_ros.model import CheckpointError, load_model
from loger_ros.model.carried import Carried
from loger_ros.training import bank, trainer
from loger_ros.training.bank import RunError
from loger_ros.training.logbook import Logbook, Pending
from loger_ros.training.recipe import Recipe
from loger_ros.training.trainer import Trainer


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    subprocess.run(command(recipe_file, out), env=environment(), check=True, timeout=300)
    return out


def test_killed_and_resumed_is_the_same_run(recipe_file, uninterrupted, tmp_path):
    for dies_at, resumes_at in ((19, (0, 14)), (27, (1, 7))):  # the second one dies in the second stage
        process = subprocess.run(
            command(recipe_file, tmp_path, dies_at), env=environment(), check=False, timeout=300
        )
        assert process.returncode == -signal.SIGKILL
        progress = torch.load(tmp_path / "state.pt", weights_only=True)
        assert (progress["stage"], progress["step"]) == resumes_at
    subprocess.run(command(recipe_file, tmp_path), env=environment(), check=True, timeout=300)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path, uninterrupted))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (load_file(folder / "best.safetensors") for folder in (tmp_path, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    steps = [int(row["step"]) for row in rows_of(tmp_path)]
    assert steps == sorted(set(steps)), "a step was logged twice"
    ours, theirs = (
        [{name: value for name, value in row.items() if name != "frames/s"} for row in rows_of(folder)]
        for folder in (tmp_path, uninterrupted)
    )
    assert ours == theirs


def test_what_a_finished_stage_was_trained_with_stays(uninterrupted):
    recipe = Recipe.from_text(RECIPE.replace("chunk_sizes: [2, 3]", "muon_rate: 0.1, chunk_sizes: [2, 3]"))
    with pytest.raises(RunError, match="another recipe"):
        Trainer(recipe, uninterrupted)


def test_a_step_clips_the_gradient_and_moves_the_averaged_weights_a_little(recipe_file, tmp_path):
    recipe = dataclasses.replace(Recipe.from_yaml(recipe_file), clip_gradient=0.01)
    run = Trainer(recipe, tmp_path, say=lambda line: None)
    before = {name: value.clone() for name, value in run.average.named_parameters()}
    for step in range(3):
        values, _ = run._learn(run.student, recipe.stages[0], 0.5)
        run.step += 1
        gradients = [p.grad.norm() for p in run.student.parameters() if p.grad is not None]
        assert values["gradient"] > 0.02
        assert torch.stack(gradients).norm() < 0.0101
        kept = (1 + step) / (10 + step)  # few steps tell little of what is to come, so they count more
        for name, weight in run.student.model.named_parameters():
            before[name] = kept * before[name] + (1 - kept) * weight.detach()
    for name, mean in run.average.named_parameters():
        torch.testing.assert_close(mean, before[name])
    assert any(not torch.equal(mean, run.student.model.get_parameter(name)) for name, mean in before.items())


def test_a_sample_that_is_cut_short_keeps_two_frames(tmp_path):
    """One of a single chunk that shares no frame, too."""
    recipe = Recipe.from_text(
        RECIPE.replace("chunk_sizes: [2]", "chunk_sizes: [2], overlap: 0, short_tails: 1, drift_weight: 1")
    )
    run = Trainer(recipe, tmp_path, say=lambda line: None)
    for _ in range(6):
        values, count = run._learn(run.student, recipe.stages[0], 0.5)
        assert count == 8, "four pairs"
        assert values["loss"] == values["loss"]
        run.step += 1


def test_time_over_leaves_curves_and_a_run_to_go_on_with(recipe_file, tmp_path, monkeypatch, capsys):
    """A start that takes longer than the time there is must not be all that ever happens."""
    pytest.importorskip("matplotlib")
    words = arguments(recipe_file, tmp_path, minutes=0.0)
    monkeypatch.setattr(bank, "_BLOCK", 2)
    monkeypatch.delattr(trainer, "Examiner")  # no examination is due, so no films are rendered
    assert train.run(words) == 0
    assert "still to be rendered" in capsys.readouterr().out
    assert train.run(words) == 0
    assert "stopped, continue with the same command: 8 frames" in capsys.readouterr().out, (
        "one step each time"
    )
    assert train.run(words) == 0
    assert "stopped, continue with the same command: 16 frames" in capsys.readouterr().out
    assert (tmp_path / "curves.png").exists()


def test_what_only_some_steps_tell_is_a_mean_of_these(tmp_path):
    logbook = Logbook(tmp_path / "log.csv", 0, Pending())
    logbook.add({"loss": 1.0, "chained": 2.0}, 10)
    logbook.add({"loss": 3.0}, 10)
    logbook.write("a", 2, 4, 20)
    (row,) = rows_of(tmp_path)
    assert (float(row["loss"]), float(row["chained"])) == (2.0, 2.0)


def test_values_that_cannot_be_drawn_do_not_end_a_training(tmp_path):
    pytest.importorskip("matplotlib")
    for number, values in enumerate(([1.0, float("inf"), float("nan"), 0.0, 2.0], [float("inf")], [])):
        logbook = Logbook(tmp_path / f"{number}.csv", 0, Pending())
        for step, value in enumerate(values, 1):
            logbook.add({"loss": value}, 10)
            logbook.write("a", step, 5, 10 * step)
        logbook.plot(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").exists()


def test_another_validation_does_not_compare_with_the_one_before(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    same = Trainer(Recipe.from_text(RECIPE), tmp_path / "run", say=lambda line: None)
    other = Recipe.from_text(RECIPE.replace("sequences: 1", "sequences: 2"))
    assert same.best < float("inf") == Trainer(other, tmp_path / "run").best


def rows_of(folder: Path) -> list[dict[str, str]]:
    path = folder / "log.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_comes_out_is_a_checkpoint(uninterrupted):
    model = load_model(uninterrupted / "model.safetensors")
    assert model.carried == Carried(pitch=(0, 20))
    assert model.config.patch_size == 7
    prediction, _ = model.step(torch.rand(1, 3, 3, 21, 28), model.initial_memory(), 3, 1)
    assert torch.isfinite(prediction.camera_poses).all()
    opened = [float(gate.bias.abs()) for gate in (*model.ttt_gate_projs, *model.swa_gate_projs)]
    assert min(opened) > 0.05, "a memory was never opened"


def test_stages_to_come_may_be_changed(uninterrupted, tmp_path, recipe_file):
    begun = tmp_path / "begun"
    subprocess.run(command(recipe_file, begun, dies_at=19), env=environment(), check=False, timeout=300)
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("chained_weight: 0.5", "chained_weight: 0.7"))
    subprocess.run(command(other, begun), env=environment(), check=True, timeout=300)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (begun, uninterrupted))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_finished_run_goes_on_with_another_stage(uninterrupted, tmp_path):
    """Here the first that uses a memory, whose gates open then; the stages before must be the same."""
    short = RECIPE.split("  memory:")[0]
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(short)
    subprocess.run(command(recipe, out), env=environment(), check=True, timeout=300)
    closed = load_model(out / "model.safetensors")
    assert not any(float(gate.bias.abs()) for gate in (*closed.ttt_gate_projs, *closed.swa_gate_projs))
    recipe.write_text(RECIPE)
    subprocess.run(command(recipe, out), env=environment(), check=True, timeout=300)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_begins_with_the_weights_of_another(uninterrupted, tmp_path):
    """Trained memories stay as they are, though the first stage uses them."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.split("  pairs:")[0] + "  memory:" + RECIPE.split("  memory:")[1])
    before = Trainer(Recipe.from_yaml(recipe), tmp_path / "out", start=uninterrupted / "model.safetensors")
    trained = load_file(uninterrupted / "model.safetensors")
    ours = before.average.state_dict()
    assert all(torch.equal(ours[name], trained[name]) for name in trained)


def test_torchrun_leaves_our_options_to_us():
    """Its parser takes every option that begins like one of its own, wherever it stands."""
    from torch.distributed.run import parse_args

    own = argparse.ArgumentParser()
    train.add_arguments(own)
    words = ["train", "recipe.yaml"]
    for action in own._actions:
        words += [
            option for option in action.option_strings if option.startswith("--") and action.dest != "help"
        ]
    assert parse_args(["-m", "loger_ros", *words]).training_script_args == words


def test_what_a_run_started_from_is_looked_at_first_and_once(uninterrupted, recipe_file, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Trainer(Recipe.from_yaml(recipe_file), tmp_path, start=tmp_path / "nowhere.safetensors")
    assert not list(tmp_path.iterdir()), "nothing was rendered"
    said: list[str] = []
    again = Trainer(Recipe.from_yaml(recipe_file), uninterrupted, start="nowhere", say=said.append)
    assert "its own state" in said[0]
    assert again.run()


PLATEAU = """
seed: 0
ema: 0.98
model:
  patch_size: 7
  encoder: {img_size: 42, dim: 32, depth: 1, num_heads: 2, num_registers: 1}
  decoder: {dim: 32, depth: 2, num_heads: 2, num_registers: 1}
  heads: {dim: 32, depth: 1, num_heads: 2, camera_dim: 32}
  ttt_insert_after: [0]
  attn_insert_after: "none"
  ttt_head_dim: 16
clips: {count: 24, frames: 16, camera_height: 0.4, camera_pitch: 12, hfov: 84,
        render_size: [84, 56], image_size: [42, 28]}
aided_heads: 1
stages:
  pairs: {frames: 27000, frames_per_step: 32, chunk_sizes: [2], strides: [2, 3],
          learning_rate: 3.0e-3, muon_rate: 6.0e-3}
"""


def test_training_leaves_no_motion_behind(tmp_path):
    """The obstacle of every plain training: predictions that stay at "no motion" while the loss falls."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(PLATEAU)
    subprocess.run(command(recipe, tmp_path / "out"), env=environment(), check=True, timeout=600)
    rows = rows_of(tmp_path / "out")
    assert float(rows[2]["rotation / still"]) > 0.9
    assert float(rows[-1]["rotation / still"]) < 0.7
    assert float(rows[-1]["translation / still"]) < 0.7


def test_two_processes_train_one_model(recipe_file, tmp_path):
    """Each learns from samples of its own, gradients are averaged, rank 0 examines and writes the model."""
    code = (
        "import sys, torch, torch.distributed as dist; from pathlib import Path\n"
        "from loger_ros.training.recipe import Recipe; from loger_ros.training.trainer import Trainer\n"
        "from loger_ros.training.batches import draw; from loger_ros.cli.train import leave\n"
        "recipe = Recipe.from_text(Path(sys.argv[1]).read_text().replace('frames: 240', 'frames: 48')"
        ".replace('every: 100', 'every: 20'))\n"
        "trainer = Trainer(recipe, Path(sys.argv[2]), say=lambda line: None)\n"
        "learner = torch.nn.parallel.DistributedDataParallel(trainer.student, find_unused_parameters=True)\n"
        "def gradient(model):\n"
        "    generator = torch.Generator().manual_seed(trainer._seed())\n"
        "    batch = draw(trainer.bank, 4, 2, (1, 1), generator)\n"
        "    model.zero_grad()\n"
        "    model(batch, recipe.stages[0], 2).loss.backward()\n"
        "    own = trainer.student.parameters()\n"
        "    return torch.cat([p.grad.flatten() for p in own if p.grad is not None])\n"
        "both, alone = gradient(learner), gradient(trainer.student)\n"
        "others = [torch.empty_like(alone) for _ in range(2)]\n"
        "dist.all_gather(others, alone)\n"
        "assert (others[0] - others[1]).norm() > 0.1 * alone.norm(), 'both learn from the same samples'\n"
        "torch.testing.assert_close(both, (others[0] + others[1]) / 2)\n"
        "trainer.student.zero_grad(set_to_none=True)\n"
        "assert trainer.run() and trainer.world == 2\n"
        "total = torch.cat([p.detach().flatten() for p in trainer.student.parameters()])\n"
        "both = [torch.empty_like(total) for _ in range(2)]\n"
        "dist.all_gather(both, total)\n"
        "assert torch.equal(*both), 'the ranks went apart'\n"
        "leave(0)\n"
    )
    script = tmp_path / "ranks.py"
    script.write_text(code)
    arguments = ["--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port=0", str(script)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            *arguments,
            str(recipe_file),
            str(tmp_path / "out"),
        ],
        env=environment(),
        check=True,
        timeout=300,
    )
    rows = rows_of(tmp_path / "out")
    assert int(rows[-1]["frames"]) == 2 * 48
    assert (tmp_path / "out" / "best.safetensors").exists()
    assert not list((tmp_path / "out" / "cache").glob("*-*-*")), "blocks of clips are joined"
