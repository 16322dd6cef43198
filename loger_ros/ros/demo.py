"""The demo: the node in a process of its own, seen from outside through ROS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from loger_ros.ros.installation import this_machine_only
from loger_ros.ros.interface import DIAGNOSTICS, NODE, qos_profile
from loger_ros.ros.log_folder import use_writable_log_folder

STOP_TIME = 20.0  # seconds that the node may take to end


def demonstrate(timeout: float) -> int:
    """Exit code 0 if the node came up, told its health and stopped cleanly."""
    for name, value in this_machine_only().items():  # no word to robots in the neighbourhood
        os.environ.setdefault(name, value)
    use_writable_log_folder()
    print("The node starts:", flush=True)
    node = subprocess.Popen([sys.executable, "-m", "loger_ros.ros.node"])
    try:
        status = wait_for_status(node, timeout)
    finally:
        node.send_signal(signal.SIGINT)
        try:
            code = node.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            node.kill()
            code = node.wait()
    if status is None:
        print(
            f"The node did not become active within {timeout:.0f} s (it ended with code {code}).",
            file=sys.stderr,
        )
        return 1
    print(f"\n{DIAGNOSTICS.name} says of {status.name}: {status.message}")
    for value in status.values:
        print(f"    {value.key:<12} {value.value}")
    print(f"The node was asked to stop and ended with code {code}.")
    return 0 if code == 0 else 1


def wait_for_status(node: subprocess.Popen, timeout: float) -> DiagnosticStatus | None:
    """The first diagnostics of the active node; None if it ended before, or time ran out."""
    context = Context()
    rclpy.init(context=context)
    listener = rclpy.create_node(f"{NODE}_demo", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    active: list[DiagnosticStatus] = []

    def look(array: DiagnosticArray) -> None:
        for status in array.status:
            values = {value.key: value.value for value in status.values}
            if status.name.startswith(f"{NODE}:") and values.get("state") == "active":
                active.append(status)

    listener.create_subscription(DiagnosticArray, DIAGNOSTICS.name, look, qos_profile(DIAGNOSTICS))
    deadline = time.monotonic() + timeout
    try:
        while not active and node.poll() is None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.2)
    finally:
        executor.shutdown()
        listener.destroy_node()
        rclpy.try_shutdown(context=context)
    return active[0] if active else None
