"""Runs the node and a camera as separate processes and watches them, for benchmarks and soaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from tf2_msgs.msg import TFMessage

from loger_ros.ros import interface
from loger_ros.ros.installation import keep_to_ourselves
from loger_ros.ros.interface import qos_profile
from loger_ros.ros.process import running_ros
from loger_ros.ros.signals import with_parent

PATIENCE = 180.0  # s


class Ended(RuntimeError):
    """The node or the camera has ended, or never started to work."""


@dataclass
class Trial:
    """What is known of the node: its newest diagnostics, and what was received from it."""

    spin: Callable[[float], None]
    node: subprocess.Popen
    camera: subprocess.Popen
    values: dict[str, str] = field(default_factory=dict)
    at: float = 0.0  # monotonic, of the newest diagnostics
    odometry: int = 0  # messages
    refused: str = ""  # why the node could not be configured

    def wait(self, condition: Callable[[], Any], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for name, process in (("node", self.node), ("camera", self.camera)):
                if process.poll() is not None:
                    raise Ended(f"the {name} ended with code {process.returncode}: see its messages above")
            if self.refused:
                raise Ended(self.refused)
            if time.monotonic() > deadline:
                raise Ended(f"nothing happened within {seconds:.0f} s: see the messages of the node above")
            self.spin(0.5)

    def number(self, name: str) -> float:
        return float(self.values.get(name, 0))

    def dropped(self) -> dict[str, int]:
        causes = [name for name in self.values if name.startswith("dropped_")]
        return {name.removeprefix("dropped_"): int(self.values[name]) for name in causes}

    def resident(self) -> float:
        """Return the resident memory of the node's process in MB."""
        pages = int(Path(f"/proc/{self.node.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def trial(
    node: Sequence[str],
    camera_module: str,
    camera: Sequence[str],
    module: str = "node",
    patience: float = PATIENCE,
) -> Iterator[Trial]:
    """Yield the running trial as soon as frames are processed.

    node, camera: parameters as ``name:=value``. module: what is tried. patience: seconds to wait for frames.
    """
    keep_to_ourselves()
    finished = False
    with running_ros([]):
        listener = rclpy.create_node("trial")
        run = Trial(
            lambda timeout: rclpy.spin_once(listener, timeout_sec=timeout),
            _started(module, node),
            _started(camera_module, camera),
        )

        def look(array: DiagnosticArray) -> None:
            run.values = {value.key: value.value for status in array.status for value in status.values}
            if run.values.get("state") == "unconfigured":
                run.refused = next((s.message for s in array.status if s.level == DiagnosticStatus.ERROR), "")
            run.at = time.monotonic()

        def count(message: Odometry) -> None:
            run.odometry += 1

        for topic, kind, callback in (
            (interface.DIAGNOSTICS, DiagnosticArray, look),
            (interface.ODOMETRY, Odometry, count),
            (interface.POSE, PoseWithCovarianceStamped, _ignore),
            (interface.TF, TFMessage, _ignore),
        ):
            listener.create_subscription(kind, topic.name, callback, qos_profile(topic))
        try:
            run.wait(lambda: run.number("frames_processed") > 0, patience)
            yield run
            finished = True
        finally:
            for process in (run.camera, run.node):
                process.send_signal(signal.SIGINT)
            for process in (run.camera, run.node):
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
            listener.destroy_node()
    if not finished:  # the block was ended by a signal
        raise KeyboardInterrupt


def _started(module: str, parameters: Sequence[str]) -> subprocess.Popen:
    words = [word for value in parameters for word in ("-p", value)]
    command = [sys.executable, "-m", f"loger_ros.ros.{module}", "--ros-args", *words]
    return subprocess.Popen([*command, "--log-level", "warn"], env=with_parent(os.environ))


def _ignore(message: Any) -> None:
    """Do nothing: the topic only needs a listener."""
