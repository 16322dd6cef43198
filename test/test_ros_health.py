"""What /diagnostics says, and the numbers behind it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from loger_ros.events import EventLog
from loger_ros.geometry import transform
from loger_ros.ros import health as health_module
from loger_ros.ros import session
from loger_ros.ros.config import HealthConfig
from loger_ros.ros.health import CameraHealth
from loger_ros.ros.inputs import Inputs
from loger_ros.ros.outputs import ThinnedPath
from loger_ros.ros.statistics import Statistics


def test_health_names_what_hangs_and_forgets_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(health_module.time, "monotonic", lambda: now[0])
    events, statistics = EventLog(lambda message: None), Statistics()
    health = CameraHealth(events, statistics)
    settings = HealthConfig(step_timeout=5)
    assert not health.troubles(settings, None, 4.0, False)
    (trouble,) = [t for t in health.troubles(settings, None, 6.0, False) if t.level == health_module.ERROR]
    assert "health.step_timeout is 5" in trouble.message
    health.troubles(settings, None, 7.0, False)
    assert events.counts["network_hangs"] == 1
    health.troubles(settings, None, 1.0, False)
    health.troubles(settings, None, 6.0, False)
    assert events.counts["network_hangs"] == 2, "another hang is news"
    now[0] += 11
    for cause in ("frame_failed", "chunk_lost", "chunk_lost"):  # each leaves a warning; three are an error
        now[0] += 11
        statistics.happened("frame")
        levels = [t.level for t in health.troubles(settings, None, 1.0, False)]
        assert health_module.ERROR not in levels
        events.add(cause, 0, "why")
    (trouble,) = [t for t in health.troubles(settings, None, 1.0, False) if t.level == health_module.ERROR]
    assert "give no odometry" in trouble.message
    statistics.happened("odometry")
    now[0] += 11
    assert not health.troubles(settings, None, 1.0, False)
    events.add("queue_full", 0, "raise this or lower that")
    assert any("lower that" in t.message for t in health.troubles(settings, None, 0.0, False))
    now[0] += 1
    events.add("clock_jumped", 0, "the newest")
    newest, before = health.troubles(settings, None, 0.0, False)
    assert "the newest" in newest.message
    assert "lower that" in before.message
    now[0] += 11
    assert not health.troubles(settings, None, 0.0, False)


def test_another_publisher_of_the_odometry_is_told_once_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    health = CameraHealth(EventLog(lambda message: None), Statistics())
    told = []
    for count in (1, 1, 0, 1, 1):  # the first one was killed
        told.append(bool(health.other_publishers("/odometry", count)))
        now[0] += 31
    assert told == [False, True, False, False, True]
    assert "/odometry has another publisher" in health.other_publishers("/odometry", 1)[0].message


def test_the_log_stays_readable_and_does_not_fall_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[float] = [100.0]
    said: list[str] = []
    monkeypatch.setattr("loger_ros.events.time.monotonic", lambda: now[0])
    events = EventLog(said.append)
    for _ in range(1000):
        events.add("chunk_lost", 0, "why")
        now[0] += 0.03
    assert len(said) == 10
    for _ in range(5):  # a fault now and then is said each time
        now[0] += 300
        events.add("chunk_lost", 0, "why")
    assert len(said) == 15
    assert said[-1] == "chunk_lost: why (1005 times so far)"


def test_diagnostics_survive_what_they_look_at() -> None:
    def look() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    (status,) = health_module.or_failure_status("loger_node: node", "active", look)
    assert status.level == health_module.ERROR
    assert "device-side assert triggered" in status.message
    assert "restart the node" in status.message


def test_the_time_of_a_chunk_is_guessed_before_there_was_one() -> None:
    statistics = Statistics()
    assert session.chunk_time(statistics) == 0
    for seconds in (0.0, 0.0, 27.0):
        statistics.took("push", seconds)
    assert session.chunk_time(statistics) > session.HURRY
    statistics.took("chunk", 0.1)
    assert session.chunk_time(statistics) == 0.1


def test_rates_are_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("loger_ros.ros.statistics.time.monotonic", lambda: now[0])
    statistics = Statistics()
    for _ in range(40):
        now[0] += 0.5
        statistics.happened("image")
    assert statistics.rate("image") == pytest.approx(2.0)
    now[0] += 4.0
    assert statistics.rate("image") == pytest.approx(0.4)


def test_a_camera_is_not_silent_for_what_was_before_it_was_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(health_module.time, "monotonic", lambda: now[0])
    health = CameraHealth(EventLog(lambda message: None), Statistics())
    inputs = SimpleNamespace(why_nothing_comes=lambda: "why", topic="/image")
    now[0] += 60
    assert health.troubles(HealthConfig(image_timeout=5), inputs, 0.0, True)
    health.activated()
    now[0] += 4
    assert not health.troubles(HealthConfig(image_timeout=5), inputs, 0.0, True)
    now[0] += 2
    assert health.troubles(HealthConfig(image_timeout=5), inputs, 0.0, True)


def test_ages_are_told_by_percentiles() -> None:
    statistics = Statistics()
    for age in range(101):
        statistics.took("age", age / 100)
    assert statistics.percentiles("age") == pytest.approx((0.5, 0.95, 0.99))
    assert statistics.percentiles("nothing") is None


def test_a_long_way_is_thinned_out_evenly() -> None:
    way = ThinnedPath(10, "map")
    for i in range(1000):
        way.add(i, transform(np.eye(3), np.array([float(i), 0, 0])))
        if i % 300 == 0:
            way.message()  # also in between
        assert len(way) <= 10
    message = way.message()
    places = np.array([pose.pose.position.x for pose in message.poses])
    assert places[0] == 0
    assert len(set(np.diff(places[:-1]))) == 1
    assert places[-1] == 999, "where the robot is now"
    assert [pose.header.stamp.nanosec for pose in message.poses] == places.astype(int).tolist()


def test_what_dds_loses_is_told() -> None:
    events, statistics = EventLog(lambda message: None), Statistics()
    inputs = SimpleNamespace(_events=events, _statistics=statistics, topic="/image")
    Inputs._lost(inputs, SimpleNamespace(total_count_change=3))  # type: ignore[arg-type]
    assert statistics.dropped["lost_on_the_way"] == 3
    assert "Fast DDS profile" in events.recent[-1].message
    assert CameraHealth(events, statistics).values()["dropped_lost_on_the_way"] == "3"
