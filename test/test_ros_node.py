"""The node from outside: what it serves, what it says and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from loger_ros.ros.interface import DIAGNOSTICS, NODE, PUBLISHED, qos_profile  # noqa: E402

OF_EVERY_NODE = {"/rosout", "/parameter_events", f"/{NODE}/transition_event"}


class Observer:
    """A node of the test with a deadline on every wait."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("tester", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def wait(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def tester(ros_domain: int) -> Iterator[Observer]:
    tester = Observer(ros_domain)
    yield tester
    tester.close()


@contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", "loger_ros.ros.node", *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_serves_what_the_interface_says_and_tells_its_health(
    tester: Observer, ros_environment: dict[str, str]
) -> None:
    said: list[dict[str, str]] = []

    def listen(array: DiagnosticArray) -> None:
        said.extend({value.key: value.value for value in status.values} for status in array.status)

    tester.node.create_subscription(DiagnosticArray, DIAGNOSTICS.name, listen, qos_profile(DIAGNOSTICS))
    with running(ros_environment) as process:
        tester.wait(lambda: any(values["state"] == "active" for values in said) or process.poll() is not None)
        topics = dict(tester.node.get_publisher_names_and_types_by_node(NODE, "/"))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert {"torch", "device", "checkpoint"} <= set(said[-1])
    served = {topic.name: [topic.type] for topic in PUBLISHED if topic.served}
    assert {name: types for name, types in topics.items() if name not in OF_EVERY_NODE} == served


def test_it_waits_for_the_lifecycle_where_it_is_told_to(
    tester: Observer, ros_environment: dict[str, str]
) -> None:
    client = tester.node.create_client(GetState, f"/{NODE}/get_state")
    with running(ros_environment, "--ros-args", "-p", "autostart:=false") as process:
        tester.wait(lambda: client.service_is_ready() or process.poll() is not None)
        answer = client.call_async(GetState.Request())
        tester.wait(lambda: answer.done() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert answer.result().current_state.label == "unconfigured"


def test_a_home_that_cannot_be_written_does_not_stop_it(
    tester: Observer, ros_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    del ros_environment["ROS_LOG_DIR"]
    ros_environment |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    client = tester.node.create_client(GetState, f"/{NODE}/get_state")
    with running(ros_environment, "--ros-args", "-p", "autostart:=false") as process:
        tester.wait(lambda: client.service_is_ready() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "ROS logs go to" in errors
    assert list((tmp_path / "ros_log").iterdir())


def test_the_demo_sees_it_come_and_go(ros_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "loger_ros", "demo"]
    ran = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "ended with code 0" in ran.stdout
    assert "state        active" in ran.stdout
