"""What can go wrong in training: it is told with its cure, and nothing that was learnt is lost."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from recipes import RECIPE, arguments, command, environment

from loger_ros.cli import train
from loger_ros.files import locked
from loger_ros.training import trainer
from loger_ros.training.bank import RunError
from loger_ros.training.recipe import Recipe
from loger_ros.training.student import Student
from loger_ros.training.trainer import Trainer


@pytest.fixture(scope="module")
def one_step(tmp_path_factory) -> Path:
    """The folder of a run that was stopped after its first step."""
    folder = tmp_path_factory.mktemp("begun")
    assert not trainer_in(folder, minutes=0.0).run()
    return folder


@pytest.fixture
def begun(one_step, tmp_path) -> Path:
    shutil.copytree(one_step, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def recipe_file(tmp_path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def trainer_in(folder: Path, **options) -> Trainer:
    return Trainer(Recipe.from_text(RECIPE), folder, **{"say": lambda line: None} | options)


@pytest.mark.parametrize("content", [b"", b"junk" * 99, None], ids=["empty", "junk", "cut"])
def test_a_damaged_state_gives_way_to_the_one_before(begun, content):
    said: list[str] = []
    trainer_in(begun).save()  # the same again
    state = begun / "state.pt"
    state.write_bytes(state.read_bytes()[:-999] if content is None else content)
    again = trainer_in(begun, minutes=0.0, say=said.append)
    assert "state.pt is damaged: resuming from" in said[0]
    assert again.step == 1
    again.run()
    steps = [torch.load(begun / name, weights_only=True)["step"] for name in ("state.before.pt", "state.pt")]
    assert steps == [1, 2], "the damaged one is not kept"
    for file in ("state.pt", "state.before.pt"):
        (begun / file).write_bytes(b"")
    with pytest.raises(RunError, match=r"no intact earlier one.*--from .*model.safetensors"):
        trainer_in(begun)


def test_a_state_that_wants_to_call_something_does_not(tmp_path):
    (tmp_path / "state.pt").write_bytes(pickle.dumps(Caller(tmp_path / "called"), protocol=2))
    with pytest.raises(RunError, match="damaged"):
        trainer_in(tmp_path)
    assert not (tmp_path / "called").exists()


class Caller:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_full_disk_is_a_message_and_leaves_the_state_of_before(recipe_file, begun):
    """Files may have 100 kB here, then 1 MB: too little for the weights, then for the state."""
    own = environment() | {"PYTHONDONTWRITEBYTECODE": "1"}  # else Python's own files are cut short, too
    for most in (100_000, 1_000_000):
        call = command(recipe_file, begun)
        call[2] = (
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n{call[2]}"
        )
        told = subprocess.run([*call, "--minutes", "0"], env=own, capture_output=True, text=True, timeout=300)
        assert told.returncode == 1, told.stderr
        assert "continue with the same command" in told.stderr
    assert trainer_in(begun).step == 1


def test_a_run_has_one_trainer(begun):
    run = trainer_in(begun)
    other = locked(begun / "lock")
    with pytest.raises(RunError, match="already in use by another training process"):
        run.run()
    os.close(other)


def test_what_killed_saves_left_goes_but_not_what_others_write(begun):
    left = [begun / f".{name}.unfinished-k1ll_ed0" for name in ("state.pt", "model.safetensors", "log.csv")]
    other = begun / ".notes.unfinished-k1ll_ed0"
    for file in (*left, other):
        file.write_bytes(b"half")
        os.utime(file, (0, 0))
    run = trainer_in(begun, minutes=0.0)
    lock = locked(begun / "lock")
    with pytest.raises(RunError):
        run.run()
    assert all(file.exists() for file in left), "they may be of who trains it now"
    os.close(lock)
    run.run()
    assert [file for file in (*left, other) if file.exists()] == [other]


def test_steps_without_a_finite_gradient_change_nothing_and_end_it(begun, monkeypatch):
    run = trainer_in(begun)
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    forward = Student.forward

    def broken(self, *arguments):
        report = forward(self, *arguments)
        return dataclasses.replace(report, loss=report.loss * float("nan"))

    monkeypatch.setattr(Student, "forward", broken)
    monkeypatch.setattr(trainer, "MOST_USELESS", 4)
    with pytest.raises(RunError, match=r"4 steps in a row.* lower the rates of stages\.pairs"):
        run.run()
    assert run.step == 4
    assert all(torch.equal(before[name], value) for name, value in run.student.state_dict().items())


def test_a_stage_that_has_begun_goes_on_with_other_rates(recipe_file, begun, capsys):
    first = RECIPE.replace("chunk_sizes: [2]}", "chunk_sizes: [2], learning_rate: 0.0, muon_rate: 0.0}")
    recipe_file.write_text(first.replace("seed: 3", "seed: 3\nclip_gradient: 0.5"))
    assert train.run(arguments(recipe_file, begun, minutes=0.0)) == 0
    told = capsys.readouterr().out
    assert "pairs continues with muon_rate 0, which was 0.002" in told
    assert "pairs continues with clip_gradient 0.5, which was 1" in told
    state = torch.load(begun / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(group["lr"] == 0 for optimiser in state["optimisers"] for group in optimiser["param_groups"])
    recipe_file.write_text(first.replace("frames_per_step: 8", "frames_per_step: 4"))
    assert train.run(arguments(recipe_file, begun)) == 1
    assert "in the current stage, learning_rate" in capsys.readouterr().err


def test_a_step_without_room_says_what_to_lower(begun, monkeypatch):
    def forward(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 22 GiB.")

    monkeypatch.setattr(Student, "forward", forward)
    with pytest.raises(
        RunError, match=r"allocate 22 GiB.*stages\.pairs needs a lower frames_per_step.*--from"
    ):
        trainer_in(begun).run()


def test_a_lost_gpu_is_a_message(begun, monkeypatch):
    def forward(*_):
        raise RuntimeError("CUDA error: unknown error\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(Student, "forward", forward)
    with pytest.raises(RunError, match=r"^CUDA error: unknown error: the GPU fails[^\n]*persists$"):
        trainer_in(begun).run()


def test_what_a_user_can_mend_is_a_message_and_the_rest_a_traceback(
    recipe_file, tmp_path, monkeypatch, capsys
):
    for device in ("gpu", "cuda:99"):
        assert train.run(arguments(recipe_file, tmp_path, device=device)) == 1
        assert "loger train: device: " in capsys.readouterr().err
    assert train.run(arguments(recipe_file, tmp_path, start="nowhere.safetensors")) == 1
    assert "nowhere.safetensors does not exist" in capsys.readouterr().err
    for error in (ValueError, RuntimeError):

        def mistaken(*_, error=error, **__):
            raise error("a mistake of ours")

        monkeypatch.setattr(trainer, "Trainer", mistaken)
        with pytest.raises(error, match="a mistake of ours"):
            train.run(arguments(recipe_file, tmp_path))


def test_another_recipe_or_number_of_processes_is_refused_before_anything_is_rendered(
    recipe_file, begun, monkeypatch, capsys
):
    shutil.rmtree(begun / "cache")
    recipe_file.write_text(RECIPE.replace("seed: 3", "seed: 4").replace("count: 3", "count: 4"))
    assert train.run(arguments(recipe_file, begun)) == 1
    assert "another recipe" in capsys.readouterr().err
    monkeypatch.setattr(trainer, "_rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(trainer.dist, "is_initialized", lambda: True)
    with pytest.raises(RunError, match="trained by 1 processes"):
        trainer_in(begun)
    assert not (begun / "cache").exists()
