"""``loger doctor``: right where all is well, and a cure where something is wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from loger_ros import inventory
from loger_ros.cli import doctor
from loger_ros.inventory import Finding, Verdict
from loger_ros.ros import installation

ROS_IS_HERE = importlib.util.find_spec("rclpy") is not None
ROOT = Path(__file__).resolve().parents[1]


def test_the_cure_stands_below_what_is_wrong() -> None:
    text = doctor.report([Finding("torch", "2.13"), Finding("ROS 2", "none", Verdict.WRONG, "install it")])
    first, second, third = text.splitlines()
    assert first.startswith("ok  torch")
    assert second.startswith("!!  ROS 2")
    assert third.strip() == "→ install it"


def test_packages_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert inventory.opencv().verdict is Verdict.WRONG
    assert "opencv-python-headless" in inventory.opencv().cure
    found = inventory.optional("no-such-package", "bags")
    assert (found.verdict, found.cure) == (Verdict.NOTE, "pip install no-such-package")
    assert "bags need it" in found.value
    assert inventory.optional("pytest", "tests").value == pytest.__version__


@pytest.mark.parametrize("command", ["eval", "replay", "export"])
def test_a_command_without_opencv_says_how_to_get_it(command: str) -> None:
    code = (
        "import sys; sys.modules['cv2'] = None; from loger_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, command, "x"]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"loger {command} needs OpenCV, which is missing: pip install")
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(not ROS_IS_HERE, reason="needs ROS 2")
def test_it_finds_this_environment_fit() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "loger_ros", "doctor"], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    for name in (
        "Python",
        "ROS 2",
        "messages",
        "RMW",
        "large messages",
        "NumPy",
        "OpenCV",
        "rosbags",
        "matplotlib",
        "torch",
        "device",
        "checkpoint",
    ):
        assert sum(line[4:].startswith(name) for line in lines) == 1, name
    assert torch.__version__ in ran.stdout
    assert not any(line.startswith(Verdict.WRONG.value) for line in lines)


def test_without_ros_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(doctor, "find_ros", lambda: None)
    assert doctor.run(Namespace()) == 1
    said = capsys.readouterr().out
    assert "!!  ROS 2" in said
    assert "setup.bash" in said


def test_a_missing_message_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "message_packages", lambda: ["not_there_msgs"])
    finding = doctor.messages(from_wheels=False)
    assert finding.verdict is Verdict.WRONG
    assert "not_there_msgs" in finding.value


def test_a_torch_that_does_not_import_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = inventory.torch()
    assert finding.verdict is Verdict.WRONG
    assert finding.cure


@pytest.mark.parametrize(("version", "verdict"), [("2.3.1+cu118", Verdict.WRONG), ("2.10.0", Verdict.FINE)])
def test_an_old_torch_is_wrong(version: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(__version__=version, version=SimpleNamespace(cuda=None))
    monkeypatch.setitem(sys.modules, "torch", old)
    assert inventory.torch().verdict is verdict


@pytest.mark.parametrize(
    ("works", "verdict"),
    [("cvtColorForDisplay = None", Verdict.FINE), ("raise ImportError('_ARRAY_API')", Verdict.NOTE)],
)
def test_a_cv_bridge_is_tried_with_this_numpy(
    works: str, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "cv_bridge" / "boost"
    package.mkdir(parents=True)
    (tmp_path / "cv_bridge" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "cv_bridge_boost.py").write_text(works)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = inventory.numpy()
    assert finding.verdict is verdict
    assert "cv_bridge" in finding.value


def cuda_torch(memory: object, built: tuple[str, ...] = ("sm_87",)) -> SimpleNamespace:
    properties = SimpleNamespace(name="NVIDIA Something", major=8, minor=7)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        get_device_properties=lambda index: properties,
        mem_get_info=memory,
        get_arch_list=lambda: [*built],
    )
    return SimpleNamespace(__version__="2.6.0", version=SimpleNamespace(cuda="12.4"), cuda=cuda)


def test_a_gpu_is_told_with_its_capability_and_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", cuda_torch(lambda index: (3 * 2**30, 8 * 2**30)))
    finding = inventory.device()
    assert finding.verdict is Verdict.FINE
    assert "NVIDIA Something, compute capability 8.7, 3.0 of 8.0 GiB free" in finding.value


def test_a_gpu_that_cannot_be_used_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(index: int) -> tuple[int, int]:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(sys.modules, "torch", cuda_torch(memory))
    finding = inventory.device()
    assert finding.verdict is Verdict.WRONG
    assert "out of memory" in finding.value
    assert finding.cure


@pytest.mark.parametrize(
    ("built", "runs"),
    [
        (("sm_70", "sm_87"), True),
        (("sm_80", "sm_90"), False),  # as PyPI's for other machines: a Jetson takes nobody's code
        (("sm_75", "compute_75"), True),
        (("sm_90a", "sm_100", "compute_90"), False),
        (("compute_87a",), True),
        (("sm_89", "sm_75"), False),
        (("gfx90a",), True),  # not of CUDA
        ((), True),  # nobody says
    ],
)
def test_a_torch_without_code_for_the_gpu_is_wrong(
    built: tuple[str, ...], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", cuda_torch(lambda index: (2**30, 2**30), built))
    finding = inventory.device()
    assert (finding.verdict is Verdict.FINE) == runs
    assert runs or finding.cure.startswith(f"this torch has code for {', '.join(built)} only")


def test_code_for_a_gpu_runs_on_the_later_ones_of_its_generation_alone() -> None:
    for code, gpu, runs in (
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_90", (10, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("compute_90", (12, 0), True),
        ("compute_90a", (12, 0), False),
        ("compute_120", (9, 0), False),
        ("sm_101", (11, 0), True),
    ):
        assert inventory.runs_on([code], *gpu) == runs, (code, gpu)


def test_a_damaged_checkpoint_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(b"not a checkpoint")
    monkeypatch.setenv("LOGER_CHECKPOINTS", str(tmp_path))
    finding = inventory.checkpoint()
    assert finding.verdict is Verdict.WRONG
    assert str(tmp_path) in finding.value


def test_no_checkpoint_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loger_ros.model.catalog.find_checkpoint", lambda name: None)
    finding = inventory.checkpoint()
    assert finding.verdict is Verdict.NOTE
    assert "none found" in finding.value
    assert finding.cure


@pytest.mark.parametrize(
    ("version", "variable", "from_wheels", "expected"),
    [
        ("9.1.2", None, True, "kilted"),
        ("7.1.6", "kilted", True, "jazzy"),  # a leftover variable does not change what the wheels are
        ("3.3.13", None, False, "humble"),
        ("99.0.1", "rolling", False, "rolling"),
        ("99.0.1", None, False, "unknown"),
    ],
)
def test_the_distribution_is_told_from_rclpy(
    version: str, variable: str | None, from_wheels: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"rclpy": version, **({"ros-rclpy": version} if from_wheels else {})}
    monkeypatch.setattr(installation, "_version", versions.get)
    spec = SimpleNamespace(origin="/opt/ros/somewhere/rclpy/__init__.py")
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: spec)
    if variable:
        monkeypatch.setenv("ROS_DISTRO", variable)
    else:
        monkeypatch.delenv("ROS_DISTRO", raising=False)
    found = installation.find_ros()
    assert found is not None
    assert found.distribution == expected
