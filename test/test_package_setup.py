"""The set-up of the Makefile: one message for each thing missing, stamps that resume, failures explained."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
if not TOOLS.is_dir():
    pytest.skip("the set-up belongs to the checkout", allow_module_level=True)
sys.path.insert(0, str(TOOLS))

import environment  # noqa: E402
import machine  # noqa: E402
from environment import Environment, Step, explain  # noqa: E402
from machine import SetupError  # noqa: E402


@pytest.fixture
def without_ros(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.delenv("LOGER_ROS", raising=False)
    monkeypatch.delenv("LOGER_TORCH", raising=False)
    monkeypatch.setenv("LOGER_VENV", str(tmp_path / "a place" / "venv"))


def make(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess:
    unset = ("ROS_DISTRO", "LOGER_ROS", "LOGER_TORCH")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"LOGER_VENV": str(tmp_path / "venv"), **variables}
    command = [sys.executable, TOOLS / "environment.py", "true"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="elsewhere the first message is that of the machine"
)
def test_without_a_compiler_it_stops_before_any_download(tmp_path: Path) -> None:
    ran = make(tmp_path, PATH=str(tmp_path))
    assert ran.returncode == 1
    assert "STOP: gcc was not found" in ran.stderr
    assert "apt install" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_an_unknown_distribution_is_refused(tmp_path: Path) -> None:
    ran = make(tmp_path, LOGER_ROS="foxy")
    assert ran.returncode == 1
    assert "LOGER_ROS=foxy" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("read_only", "cure"), [("checkout", "Copy the checkout"), ("venv", "LOGER_VENV")])
def test_a_folder_that_cannot_be_written_is_named(
    read_only: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkout", "venv"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(machine, "writable", lambda folder: folder.name != read_only)
    with pytest.raises(SetupError, match=cure) as raised:
        machine.check_folders(tmp_path / "checkout", tmp_path / "venv")
    assert str(tmp_path / read_only) in str(raised.value)


def test_a_full_disk_is_seen_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    with pytest.raises(SetupError, match=r"1\.0 GB free"):
        machine.check_folders(tmp_path, tmp_path / "venv")


def test_another_processor_is_sent_to_a_sourced_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    with pytest.raises(SetupError, match=r"source its setup\.bash"):
        machine.check_wheels()


def test_a_python_without_venv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "runs", lambda interpreter, code: False)
    with pytest.raises(SetupError, match="python3-venv"):
        machine.check_python()


def test_an_unsupported_python_looks_for_a_supported_one(
    without_ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(machine, "runs", lambda interpreter, code: True)
    monkeypatch.setattr(
        machine.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "python3.12" else None
    )
    assert machine.choose_interpreter() == "/usr/bin/python3.12"
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    with pytest.raises(SetupError, match=r"3\.10 to 3\.13"):
        machine.choose_interpreter()


def test_a_sourced_ros_of_another_python_is_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(machine, "runs", lambda interpreter, code: interpreter == "/usr/bin/python3")
    assert machine.choose_interpreter() == "/usr/bin/python3"
    monkeypatch.setattr(machine, "runs", lambda interpreter, code: False)
    with pytest.raises(SetupError, match="jazzy is sourced"):
        machine.choose_interpreter()


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (
            "Retrying ... NewConnectionError('<...>: Failed to establish a new connection')",
            "keeps what was downloaded",
        ),
        (
            "urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.",
            "keeps what was downloaded",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "LOGER_TORCH"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("SyntaxError: something else", "SyntaxError: something else"),
    ],
)
def test_a_failure_is_explained(said: str, meaning: str) -> None:
    assert meaning in explain(["Collecting things", said])


def test_torch_is_chosen_by_the_driver_and_the_user(
    without_ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "has_nvidia_driver", lambda: False)
    arguments, title = Environment().torch()
    assert any(word.endswith("+cpu") for word in arguments)  # PyPI has no such build: CUDA cannot slip in
    assert "CPU" in title
    monkeypatch.setattr(environment, "has_nvidia_driver", lambda: True)
    arguments, title = Environment().torch()
    assert not any(word.endswith("+cpu") for word in arguments)
    assert "CUDA" in title
    monkeypatch.setenv("LOGER_TORCH", "torch==2.6.0 --index-url 'https://a.place/with space'")
    assert Environment().torch()[0] == ["torch==2.6.0", "--index-url", "https://a.place/with space"]


def test_pip_gets_a_cache_where_the_home_cannot_be_written(
    without_ros: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("XDG_CACHE_HOME", "PIP_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Environment().pip_variables() == {}
    monkeypatch.setattr(machine.os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert Environment().pip_variables()["PIP_CACHE_DIR"].startswith(os.environ["LOGER_VENV"])


class Recorder(Environment):
    """Steps that only note that they ran; the second can fail."""

    def __init__(self, first_input: str = "a", breaks: bool = False) -> None:
        super().__init__()
        self.ran: list[str] = []
        self.first_input, self.breaks = first_input, breaks

    def steps(self) -> list[Step]:
        return [
            Step("one", self.one, [self.first_input]),
            Step("two", self.two, []),
            Step("three", lambda: self.ran.append("three"), []),
        ]

    def one(self) -> None:
        self.python.parent.mkdir(parents=True, exist_ok=True)
        self.python.touch()
        self.ran.append("one")

    def two(self) -> None:
        if self.breaks:
            raise SetupError("the network broke off")
        self.ran.append("two")


@pytest.fixture
def fit_machine(without_ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("check_folders", "check_python", "check_wheels"):
        monkeypatch.setattr(environment, check, lambda *_: None)


def made(recorder: Recorder) -> list[str]:
    recorder.make()
    return recorder.ran


def test_what_broke_off_goes_on_and_what_is_done_is_skipped(fit_machine: None) -> None:
    with pytest.raises(SetupError):
        Recorder(breaks=True).make()
    assert made(Recorder()) == ["two", "three"]
    assert made(Recorder()) == []


def test_a_changed_input_does_the_step_and_all_after_it_again(fit_machine: None) -> None:
    assert made(Recorder()) == ["one", "two", "three"]
    assert made(Recorder(first_input="b")) == ["one", "two", "three"]


def test_an_environment_that_is_gone_is_made_again(fit_machine: None) -> None:
    recorder = Recorder()
    recorder.make()
    recorder.python.unlink()
    assert made(Recorder()) == ["one", "two", "three"]


def test_commands_do_not_inherit_another_environments_ros(
    without_ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other/venv/lib")
    monkeypatch.setenv("PYTHONPATH", "/other/install")
    variables = Environment().variables()
    assert not {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH"} & variables.keys()
    assert variables["PATH"].startswith(os.environ["LOGER_VENV"])
