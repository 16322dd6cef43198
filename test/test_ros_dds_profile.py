"""The profile for large messages: when it is applied, and that it does what it is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest

from loger_ros.ros import dds_profile
from loger_ros.ros.dds_profile import PROFILE, ROOM, USER_FILES, USER_VARIABLES, large_message_profile
from loger_ros.share import share_file

FAST_DDS_3, FAST_DDS_2 = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A /dev/shm whose free space the test sets, and an empty working directory."""
    space = SimpleNamespace(free=10 * ROOM)
    monkeypatch.setattr(dds_profile, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(dds_profile.shutil, "disk_usage", lambda folder: space)
    monkeypatch.chdir(tmp_path)
    return space


def of(distribution: str) -> object:
    return lambda: SimpleNamespace(distribution=distribution)


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", FAST_DDS_2), ("jazzy", FAST_DDS_2), ("kilted", FAST_DDS_3), ("unknown", FAST_DDS_3)],
)
def test_each_distribution_gets_the_one_variable_it_reads(
    distribution: str, variable: str, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds_profile, "find_ros", of(distribution))
    assert large_message_profile({}).environment == {variable: str(share_file(PROFILE))}


@pytest.mark.parametrize("variable", USER_VARIABLES)
def test_a_users_own_setting_wins(
    variable: str, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds_profile, "find_ros", of("kilted"))
    decision = large_message_profile({variable: "mine"})
    assert not decision.environment
    assert f"{variable}=mine" in decision.reason


@pytest.mark.parametrize(
    ("distribution", "file", "read"),
    [
        ("jazzy", "DEFAULT_FASTRTPS_PROFILES.xml", True),
        ("jazzy", "DEFAULT_FASTDDS_PROFILES.xml", False),
        ("kilted", "DEFAULT_FASTRTPS_PROFILES.xml", False),
        ("kilted", "DEFAULT_FASTDDS_PROFILES.xml", True),
    ],
)
def test_a_users_own_file_wins_where_it_is_read(
    distribution: str, file: str, read: bool, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds_profile, "find_ros", of(distribution))
    Path(file).touch()
    assert bool(large_message_profile({}).environment) == (not read)


@pytest.mark.parametrize("distribution", dds_profile.NOT_READ)
def test_what_fast_dds_does_not_read_does_not_stand_in_the_way(
    distribution: str, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does our own profile under a name that says nothing there."""
    monkeypatch.setattr(dds_profile, "find_ros", of(distribution))
    profile = str(share_file(PROFILE))
    unread = dds_profile.NOT_READ[distribution]
    for name in USER_FILES:
        if name in unread:
            Path(name).touch()
    for value in ("mine", profile):
        decision = large_message_profile({name: value for name in USER_VARIABLES if name in unread})
        assert list(decision.environment.values()) == [profile]


@pytest.mark.parametrize(("distribution", "on"), [("humble", False), ("jazzy", True), ("kilted", True)])
def test_who_wants_to_stay_on_this_machine_does(
    distribution: str, on: bool, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds_profile, "find_ros", of(distribution))
    decision = large_message_profile({"ROS_LOCALHOST_ONLY": "1"})
    assert bool(decision.environment) == on
    assert on or "ROS_DOMAIN_ID" in decision.cure


def test_another_middleware_is_left_alone(shared_memory: SimpleNamespace) -> None:
    assert not large_message_profile({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}).environment


def test_without_room_it_stays_off_and_says_what_to_do(shared_memory: SimpleNamespace) -> None:
    shared_memory.free = 64 * 2**20
    decision = large_message_profile({})
    assert not decision.environment
    assert "64 MB free" in decision.reason
    assert "--shm-size" in decision.cure


@pytest.mark.parametrize(("distribution", "variable"), [("humble", FAST_DDS_2), ("kilted", FAST_DDS_3)])
def test_a_child_process_knows_our_own_profile(
    distribution: str, variable: str, shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds_profile, "find_ros", of(distribution))
    decision = large_message_profile({variable: str(share_file(PROFILE))})
    assert decision.reason.startswith("on")
    assert not decision.environment


def test_applying_it_sets_the_environment(
    shared_memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(dds_profile.os, "environ", environment)
    monkeypatch.setattr(dds_profile, "large_message_profile", lambda: large_message_profile({}))
    assert dds_profile.apply_large_message_profile().environment == environment
    assert len(environment) == 1


def test_the_segment_fits_the_room_that_is_asked_for() -> None:
    size = ElementTree.parse(share_file(PROFILE)).find(".//{*}segment_size")
    assert size is not None
    assert 2 * int(size.text) < ROOM


SENDER = """
import time
from loger_ros.ros.dds_profile import apply_large_message_profile
apply_large_message_profile()
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("sender")
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
message = Image(height=480, width=640, encoding="rgb8", step=1920)
message.data.frombytes(bytes(640 * 480 * 3))
while not publisher.get_subscription_count():
    time.sleep(0.05)
for index in range(600):
    message.header.stamp.sec = index
    publisher.publish(message)
    time.sleep(0.05)
node.destroy_node()
rclpy.shutdown()
"""


def test_best_effort_images_arrive(ros_environment: dict[str, str], ros_domain: int) -> None:
    """Without the profile few of these do: 13 of 600 were counted at this size, at most 5 in a row."""
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    if not large_message_profile(ros_environment).environment:
        pytest.skip(large_message_profile(ros_environment).reason)
    if shutil.disk_usage("/dev/shm").free < 4 * ROOM:
        pytest.skip("too little shared memory for two more processes")
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("receiver", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    received: set[int] = set()
    node.create_subscription(
        Image, "image", lambda message: received.add(message.header.stamp.sec), qos_profile_sensor_data
    )

    def in_a_row() -> bool:
        return any(received.issuperset(range(first, first + 20)) for first in received)

    sender = subprocess.Popen([sys.executable, "-c", SENDER], env=ros_environment)
    try:
        deadline = time.monotonic() + 120
        while not in_a_row() and sender.poll() is None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
    finally:
        sender.kill()
        sender.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert in_a_row(), sorted(received)
