"""Clocks that jump back or stand still."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.clock import ClockType, ROSClock
from rclpy.time import Time

from loger_ros.ros.time_jumps import ClockWatch, TimeJumps


def test_a_clock_that_jumps_back_mutes_its_old_time_until_stamps_jump_too() -> None:
    second = 10**9
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    jumps = TimeJumps(clock)

    def at(seconds: int) -> None:
        clock.set_ros_time_override(Time(seconds=seconds, clock_type=ClockType.ROS_TIME))

    at(50)
    assert not jumps.before(53 * second), "a camera whose clock is 3 s ahead"
    at(20)
    assert not jumps.before(53 * second)
    assert not jumps.before(23 * second)
    assert not jumps.before(24 * second)
    at(25)
    assert not jumps.before(25 * second)
    at(10)
    assert jumps.before(25 * second)
    assert not jumps.before(13 * second), "the first image of the new time, 3 s ahead"
    assert not jumps.before(14 * second)
    at(40)
    assert not jumps.before(5 * second), "images began anew before the clock did"
    at(5)
    assert not jumps.before(7 * second)
    assert jumps.left_behind(40 * second), "a map of before, whose stream has begun anew"
    assert not jumps.left_behind(7 * second)
    at(100)
    assert not jumps.before(100 * second)
    at(60)
    assert jumps.left_behind(100 * second), "nothing has come since the clock jumped"
    jumps.close()


def test_a_simulated_clock_that_does_not_go_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    watch = ClockWatch(clock)
    for _ in range(5):  # who looks may not have had its turn to listen
        assert not watch.trouble()
        now[0] += 1
    assert "nobody publishes /clock" in watch.trouble()
    for second in range(1, 4):
        now[0] += 1
        clock.set_ros_time_override(Time(seconds=second, clock_type=ClockType.ROS_TIME))
        assert not watch.trouble()
    for _ in range(4):
        now[0] += 1
        assert not watch.trouble()
    now[0] += 1
    assert "stood still" in watch.trouble()
    clock.set_ros_time_override(Time(seconds=9, clock_type=ClockType.ROS_TIME))
    assert not watch.trouble()
    now[0] += 9  # in which nobody listened
    assert not watch.trouble()
