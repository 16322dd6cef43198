"""What every command does with odd input, interruptions and readers that go away."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from recipes import RECIPE

from loger_ros.cli import READER_GONE, doctor, main
from loger_ros.cli.arguments import amount, amount_or_none, angle, positive
from loger_ros.evaluation import progress as progress_module
from loger_ros.evaluation.progress import Line
from loger_ros.files import appearing_folder
from loger_ros.inventory import Verdict


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (positive, {"1": 1, "24": 24}, ("0", "-3", "1.5", "many")),
        (amount, {"0.5": 0.5, "1e3": 1000.0}, ("0", "-1", "nan", "inf", "1e300", "long")),
        (angle, {"-0.3": -0.3, "6.28": 6.28}, ("20", "-6.3", "nan", "inf", "down")),
        (amount_or_none, {"0": 0.0, "0.5": 0.5}, ("-1", "nan", "inf", "1e300", "long")),
    ],
)
def test_numbers_that_cannot_be_are_refused(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            kind(text)


def test_degrees_of_a_mounting_are_refused(capsys):
    for command in (["eval", "x"], ["replay", "x"], ["export", "bag", "x", "y"]):
        with pytest.raises(SystemExit):
            main([*command, "--camera-rpy", "0", "20", "0"])
        assert "--camera-rpy: '20': expected radians" in capsys.readouterr().err


def test_results_do_not_go_into_a_file(capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for command in (["eval", "x"], ["replay", "x"], ["world", "preview"]):
        for out in (file, file / "below"):
            with pytest.raises(SystemExit):
                main([*command, "--out", str(out)])
            assert f"--out: '{file}' is not a folder: choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["bench", "stream", "--model", "nothing"], "nothing"),
        (["bench", "stream", "--device", "nope"], "nope"),
        (["bench", "model", "--model", "nothing"], "nothing"),
        (["bench", "weights", "--folder", "nowhere"], "--folder nowhere is not a folder: choose one"),
        (["bench", "world", "--device", "nope"], "nope"),
        (["bench", "soak", "--log", __file__], "exists"),
        (["train", "nothing.yaml", "--out", "x"], "nothing.yaml"),
        (["assess", "nothing"], "nothing"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "loger_ros.ros.bench.trial", None)  # as without ROS 2
    assert main(arguments) in (1, 2)
    said = capsys.readouterr().err
    assert reason in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["parameters", "markdown"], ["weights", "verify", "tiny"]])
def test_who_has_heard_enough_ends_a_command_in_peace(arguments):
    command = [sys.executable, "-m", "loger_ros", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(300) == READER_GONE
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_lost_gpu_is_told_in_one_line(capsys, monkeypatch):
    import torch  # noqa: F401 - before it is imported no error is of the GPU

    lost = RuntimeError("CUDA error: unknown error\nmore of it")
    monkeypatch.setattr(doctor, "run", Mock(side_effect=lost))
    assert main(["doctor"]) == 1
    assert re.fullmatch(r"loger: CUDA error: unknown error: the GPU fails.*\n", capsys.readouterr().err)
    monkeypatch.setattr(doctor, "run", Mock(side_effect=RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["doctor"])


def test_an_empty_folder_is_filled_and_stays_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    inode = (tmp_path / "elsewhere").stat().st_ino
    with appearing_folder(tmp_path / "link") as place:
        place.mkdir()
        (place / "whole").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere").stat().st_ino == inode
    assert [part.name for part in (tmp_path / "elsewhere").iterdir()] == ["whole"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with appearing_folder(Path()) as place:
        place.mkdir()
        (place / "whole").touch()
    assert [part.name for part in Path().iterdir()] == ["whole"]


class Unread(io.StringIO):
    def __init__(self, file):
        super().__init__()
        self.fileno = file.fileno

    def write(self, text):
        raise BrokenPipeError


needs_ros = pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="needs ROS 2")
SMALL = ["--frames", "2", "--size", "32x24"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["assess", "tiny"],
        ["bench", "reading", *SMALL],
        ["bench", "world", *SMALL],
        pytest.param(["demo", "--out", "demo"], marks=needs_ros),
        ["eval", "robot_rooms/0", *SMALL, "--device", "cpu", "--no-pictures"],
        ["train", "recipe.yaml", "--out", "run", "--device", "cpu"],
        ["weights", "verify", "tiny"],
        ["world", "preview", *SMALL, "--no-film"],
    ],
    ids=lambda arguments: "_".join(arguments[:2]),
)
def test_a_reader_that_is_gone_is_no_trouble_of_a_file(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with (tmp_path / "output").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Unread(file))
        assert main(arguments) == READER_GONE


@pytest.mark.parametrize("how", ["fails", "ends"])
def test_a_folder_is_there_whole_or_not_at_all(how, tmp_path):
    folder = tmp_path / "sub" / "export"

    def fill():
        with appearing_folder(folder) as place:
            place.mkdir()
            (place / "half").touch()
            assert not folder.exists()
            if how == "fails":
                raise KeyboardInterrupt
            (place / "other").touch()

    if how == "fails":
        with pytest.raises(KeyboardInterrupt):
            fill()
    else:
        fill()
        with pytest.raises(ValueError, match=r"is not empty \(it holds (half|other)\)"):
            fill()
    assert sorted(path.name for path in tmp_path.rglob("*")) == (
        ["sub"] if how == "fails" else ["export", "half", "other", "sub"]
    )


def test_a_line_that_lives_is_no_longer_than_the_terminal_is_wide(capsys, monkeypatch):
    monkeypatch.setattr(progress_module.shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = Line("/a/very/long/path" * 10, total=100)
    line.frames(7)
    shown = capsys.readouterr().err.strip("\r").removesuffix("\033[K")
    assert len(shown) < 60
    assert "7 of 100 frames" in shown
    assert shown.startswith("…")


BLOCKED = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
from loger_ros.cli import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("torch", "torch"),
        ("safetensors", "safetensors"),
        ("yaml", "PyYAML"),
        ("PIL", "Pillow"),
        ("numpy", "NumPy"),
        ("cv2", "OpenCV"),
    ],
)
def test_the_doctor_looks_at_all_the_rest_where_something_is_missing(missing, name):
    program = BLOCKED.format(blocked=(missing,), arguments=["doctor"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "loger_ros" not in done.stderr.partition("Traceback")[2]  # older torch prints one of its own
    assert "large messages" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line[4:].startswith(f"{name} "))
    assert line.startswith(Verdict.WRONG.value)
    assert f"does not import: No module named {missing!r}" in line


def test_another_command_names_what_is_missing():
    program = BLOCKED.format(blocked=("torch",), arguments=["eval", "x"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "loger eval needs torch, which is missing: `loger doctor`" in done.stderr
    assert "Traceback" not in done.stderr
