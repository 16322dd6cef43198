from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.config import QueueConfig
from loger_ros.stream import FrameQueue
from loger_ros.types import Frame

MS = 1_000_000
IMAGE = np.zeros((8, 8, 3), np.uint8)
MANY = settings(max_examples=60, deadline=None, derandomize=True)


def fill(queue, stamps):
    return [stamp for stamp in stamps if queue.put(Frame(stamp, IMAGE))]


def sending(queue, stamp):
    """Start ``put`` in a thread of its own; return what it will return, and the thread."""
    results = []
    sender = threading.Thread(target=lambda: results.append(queue.put(Frame(stamp, IMAGE))))
    sender.start()
    return results, sender


def drain(queue):
    found = []
    while (frame := queue.get(timeout=0)) is not None:
        found.append(frame.stamp)
    return found


def test_latest_drops_the_oldest_and_says_what_to_change():
    queue = FrameQueue(QueueConfig(capacity=3))
    fill(queue, range(5))
    assert queue.events.counts == queue.dropped == {"queue_full": 2}
    assert queue.events.recent[0].stamp == 0
    assert "queue.max_rate" in queue.events.recent[0].message
    assert drain(queue) == [2, 3, 4]


def test_once_it_is_known_the_pace_of_the_network_is_told(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("loger_ros.stream.queue.time.monotonic", lambda: now[0])
    queue = FrameQueue(QueueConfig(capacity=8))
    said = []
    for step in range(150):  # 2 frames per second arrive; every 5 s, 5 are taken, later 2
        now[0] = 1000.0 + step
        fill(queue, (2 * step, 2 * step + 1))
        if step % 5 == 4:
            for _ in range(5 if step < 60 else 2):
                queue.get(0)
        said.append(queue.events.recent[-1].message if queue.events.recent else "")
    assert "Set queue.max_rate, or" in said[20]
    assert " recently took about 1 of its images per second. Set queue.max_rate below that, or" in said[44]
    assert " recently took about 0.4 of its images per second." in said[-1]


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_keep_all_makes_the_sender_wait():
    queue = FrameQueue(QueueConfig(capacity=2, policy="keep_all"))
    sent = []
    sender = threading.Thread(target=lambda: sent.extend(fill(queue, range(50))))
    sender.start()
    until(lambda: len(queue) == 2)
    got = []
    while len(got) < 50:
        assert len(queue) <= 2
        got.append(queue.get(timeout=5).stamp)
    sender.join(5)
    assert got == sent == list(range(50))
    assert not queue.events.counts


def test_a_frame_that_waits_for_room_goes_with_those_that_are_given_up():
    queue = FrameQueue(QueueConfig(capacity=1, policy="keep_all"))
    assert queue.put(Frame(0, IMAGE))
    results, sender = sending(queue, 1)
    until(lambda: queue._changed._waiters)
    assert queue.clear() == 1
    sender.join(5)
    assert results == [False]
    assert queue.events.counts == queue.dropped == {"queue_cleared": 1}
    assert queue.put(Frame(2, IMAGE))
    assert drain(queue) == [2]


def test_a_frame_that_was_on_its_way_when_the_queue_was_cleared_goes_too():
    queue = FrameQueue()
    era = queue.era
    queue.clear()
    assert not queue.put(Frame(0, IMAGE), era)
    assert queue.events.counts == queue.dropped == {"queue_cleared": 1}
    assert queue.put(Frame(1, IMAGE), queue.era)
    assert drain(queue) == [1]


def test_close_wakes_everyone_and_keeps_what_is_there():
    queue = FrameQueue(QueueConfig(capacity=1, policy="keep_all"))
    assert queue.put(Frame(0, IMAGE))
    results, sender = sending(queue, 1)
    time.sleep(0.02)
    queue.close()
    sender.join(5)
    assert results == [False]
    assert queue.dropped == {"queue_closed": 1}
    assert drain(queue) == [0]
    assert queue.get() is None  # does not wait
    receiver_queue = FrameQueue()
    receiver = threading.Thread(target=lambda: results.append(receiver_queue.get()))
    receiver.start()
    receiver_queue.close()
    receiver.join(5)
    assert results == [False, None]


def test_many_threads_lose_and_double_nothing():
    queue = FrameQueue(QueueConfig(capacity=4, policy="keep_all"))
    got = []
    getters = [threading.Thread(target=lambda: got.extend(iter(lambda: queue.get(), None))) for _ in range(3)]
    for thread in getters:
        thread.start()
    fill(queue, range(500))
    queue.close()
    for thread in getters:
        thread.join(10)
    assert sorted(frame.stamp for frame in got) == list(range(500))


@pytest.mark.parametrize(
    ("stamps", "event", "taken"),
    [
        ([0, 100, 100, 200], "duplicate_stamp", [0, 100, 200]),
        ([0, 100, 300, 200, 400], "out_of_order", [0, 100, 300, 400]),
    ],
)
def test_stamps_out_of_order_have_names(stamps, event, taken):
    queue = FrameQueue()
    assert fill(queue, [stamp * MS for stamp in stamps]) == [stamp * MS for stamp in taken]
    assert queue.events.counts == queue.dropped == {event: 1}


def test_jumps_and_gaps_pass_for_the_stream_to_judge():
    stamps = [100_000 * MS, 100_100 * MS, 5 * MS, 105 * MS, 90_000 * MS]
    assert fill(FrameQueue(QueueConfig(max_rate=10)), stamps) == stamps
    assert fill(FrameQueue(QueueConfig(every_nth=3)), stamps) == [stamps[0], stamps[2]]


@pytest.mark.parametrize("rule", [{"every_nth": 3}, {"max_rate": 10.0}])
def test_only_what_has_its_turn_is_read(rule):
    queue, read = FrameQueue(QueueConfig(**rule)), []

    def reading(stamp):
        def read_it():
            read.append(stamp)
            if stamp == 300 * MS:
                raise OSError("damaged")
            return Frame(stamp, IMAGE)

        return read_it

    for number in range(12):
        stamp = number * 34 * MS if number != 9 else 300 * MS
        if stamp == 300 * MS:
            with pytest.raises(OSError, match="damaged"):
                queue.offer(stamp, reading(stamp))
        else:
            queue.offer(stamp, reading(stamp))
    assert read == [number * MS for number in (0, 102, 204, 300, 340)]  # the next one gets the lost turn
    assert drain(queue) == [number * MS for number in (0, 102, 204, 340)]
    assert queue.dropped == {next(iter(rule)): 7}


def test_every_nth():
    queue = FrameQueue(QueueConfig(every_nth=3))
    assert fill(queue, range(10)) == [0, 3, 6, 9]
    assert queue.dropped == {"every_nth": 6}


def test_of_every_nth_frame_those_that_come_too_soon_are_left_out():
    queue = FrameQueue(QueueConfig(every_nth=2, max_rate=10))
    stamps = [number * 34 * MS for number in range(8)]
    assert fill(queue, stamps) == [0, 136 * MS, 204 * MS]
    assert queue.dropped == {"every_nth": 4, "max_rate": 1}


@MANY
@given(
    camera=st.floats(1, 120),
    wanted=st.floats(0.5, 60),
    jitter=st.floats(0, 0.3),
    seed=st.integers(0, 99),
)
def test_the_rate_stays_below_its_limit_but_not_far_below(camera, wanted, jitter, seed):
    rng = np.random.default_rng(seed)
    period = 1e9 / camera
    stamps = [round((i + jitter * rng.random()) * period) + 10**18 for i in range(400)]
    queue = FrameQueue(QueueConfig(capacity=4096, max_rate=wanted))
    taken = fill(queue, stamps)
    seconds = (stamps[-1] - stamps[0]) / 1e9
    assert len(taken) <= wanted * seconds + 2
    assert len(taken) >= 0.9 * min(wanted, camera) * seconds - 2
    assert queue.dropped["max_rate"] == len(stamps) - len(taken)


@MANY
@given(stamps=st.lists(st.integers(-(2**40), 2**40)), capacity=st.integers(1, 5))
def test_what_comes_out_is_a_part_of_what_went_in(stamps, capacity):
    queue = FrameQueue(QueueConfig(capacity=capacity))
    taken = fill(queue, stamps)
    assert drain(queue) == taken[-capacity:]
    counts = queue.events.counts
    assert len(taken) == len(stamps) - counts["duplicate_stamp"] - counts["out_of_order"]
    assert counts["queue_full"] == max(len(taken) - capacity, 0)
    assert queue.dropped == counts


def scene():
    noise = np.random.default_rng(0).normal(size=(300, 400, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def view(x):
    return np.ascontiguousarray(scene()[30:270, 30 + x : 350 + x])  # 320 wide


def test_the_motion_gate_takes_what_moved():
    queue = FrameQueue(QueueConfig(min_motion=0.02))  # 6.4 of 320 pixels
    shifts = [0, 1, 2, 3, 9, 10, 11, 25]
    taken = [i for i, x in enumerate(shifts) if queue.put(Frame(i * 30 * MS, view(x)))]
    assert taken == [0, 4, 7]
    assert queue.dropped == {"min_motion": 5}


def test_rest_is_not_taken_for_a_gap():
    queue = FrameQueue(QueueConfig(min_motion=0.02, capacity=100))
    taken = [i for i in range(50) if queue.put(Frame(i * 100 * MS, view(0)))]
    assert taken == [0, 10, 20, 30, 40]


def test_without_anything_to_see_motion_by_frames_pass():
    queue = FrameQueue(QueueConfig(min_motion=0.02))
    assert fill(queue, [i * 30 * MS for i in range(4)]) == [i * 30 * MS for i in range(4)]


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        FrameQueue().put(Frame(0, np.zeros((4, 4))))
