"""The node's process at its two ends: a signal before it has begun, and a parent that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from node_rig import end, node_process, said_by

from loger_ros.ros.interface import LISTENING


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
@pytest.mark.parametrize("program", ["node", "synthetic.camera"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_still_imports_ends_it_quietly(
    ros_environment: dict[str, str], how: signal.Signals, program: str
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored, a child ignores it, too
    with node_process(ros_environment, python=("-m", f"loger_ros.ros.{program}")) as process:
        libraries = Path(f"/proc/{process.pid}/maps")
        until(lambda: "libtorch_cpu" in libraries.read_text())
        assert "terminate called" not in end(process, how)


AT_THE_VERY_END = """
import pathlib, sys, time
from loger_ros.ros.node import main
class Late:
    def __del__(self, touch=pathlib.Path({ended!r}).touch, sleep=time.sleep):
        touch()
        sleep(1)
late = Late()
sys.exit(main())
"""


def test_signals_while_python_ends_are_no_failure(ros_environment: dict[str, str], tmp_path: Path) -> None:
    """It takes a while, and nothing is left that could be cut short."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = tmp_path / "ended"
    program = AT_THE_VERY_END.format(ended=str(ended))
    with node_process(ros_environment, python=("-c", program), output__folder=tmp_path) as process:
        until(lambda: LISTENING in said_by(process))
        process.send_signal(signal.SIGINT)
        until(ended.exists)
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in end(process, signal.SIGINT)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "beginning"])
def test_a_child_ends_when_its_parent_is_killed(
    ros_environment: dict[str, str], tmp_path: Path, begun: bool
) -> None:
    log = tmp_path / "child.log"
    program = (
        "import time; from pathlib import Path; from loger_ros.ros.child import Child; "
        f"Child('loger_ros.ros.node', {{'autostart': False}}, Path({str(log)!r})); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], env=ros_environment)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until(lambda: children.read_text().split())
    (child,) = (int(word) for word in children.read_text().split())
    maps, state = Path(f"/proc/{child}/maps"), Path(f"/proc/{child}/stat")
    try:
        loaded = ("libfastdds", "libfastrtps") if begun else ("python",)  # the older name of Jazzy and Humble
        until(lambda: any(library in maps.read_text() for library in loaded))
        parent.kill()
        parent.wait()
        until(lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z")
    finally:
        parent.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    assert "Traceback" not in log.read_text()
