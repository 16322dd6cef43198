"""A sequence as a stream: order of play, prefetching, the nuisances, and wheels that slip."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from loger_ros.world import Sequence, SequenceSpec, generate
from loger_ros.world.nuisance import Nuisances, Troublemaker
from loger_ros.world.paths.wheels import WheelOdometry
from loger_ros.world.playback import Playback, Shot, blocks

SECOND = 10**9


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return generate(SequenceSpec(frames=11, width=24, height=18), 0)


def played(count: int, size: int, at_end: str, most: int) -> list[int]:
    return list(itertools.islice(itertools.chain.from_iterable(blocks(count, size, at_end)), most))


@pytest.mark.parametrize("size", [1, 3, 20])
def test_bouncing_never_jumps_nor_stands(size: int) -> None:
    order = played(7, size, "bounce", 40)
    assert order[:14] == [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0, 1]
    assert set(np.abs(np.diff(order))) == {1}


def test_repeating_and_stopping() -> None:
    assert played(4, 3, "repeat", 9) == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert played(4, 3, "stop", 9) == [0, 1, 2, 3]
    assert played(1, 3, "bounce", 9) == [0]


def take(playback: Playback) -> Shot:
    for _ in range(100):
        shot = playback.take(timeout=0.5)
        if shot is not None:
            return shot
    raise AssertionError("nothing came")


def test_kept_frames_are_rendered_once(sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    render = Sequence.render

    def counted(self: Sequence, start: int, stop: int, *others: object) -> object:
        rendered.extend(range(start, stop))
        return render(self, start, stop, *others)

    monkeypatch.setattr(Sequence, "render", counted)
    playback = Playback(sequence, "bounce", ahead=4, keep=True)
    try:
        assert [take(playback).number for _ in range(30)] == played(len(sequence), 8, "bounce", 30)
    finally:
        playback.close()
    assert rendered == list(range(len(sequence)))


def test_frames_that_do_not_fit_are_not_kept() -> None:
    long = generate(SequenceSpec(frames=600, width=1280, height=720), 0)
    with pytest.raises(ValueError, match="600 frames of 1280x720 takes 3691 MB"):
        Playback(long, keep=True)


@pytest.mark.parametrize("keep", [False, True])
def test_playback_gives_the_frames_of_the_sequence(sequence: Sequence, keep: bool) -> None:
    playback = Playback(sequence, "stop", ahead=4, keep=keep)
    try:
        for number in range(len(sequence)):
            shot = take(playback)
            assert shot.number == number
            assert np.array_equal(shot.image, sequence.render(number, number + 1).rgb[0])
            assert np.array_equal(shot.T_world_base, sequence.T_world_base[number])
        with pytest.raises(StopIteration):
            take(playback)
    finally:
        playback.close()


def test_playback_waits_when_enough_is_ready_and_ends_when_told(sequence: Sequence) -> None:
    playback = Playback(sequence, "bounce", ahead=4)
    deadline = time.monotonic() + 30
    while not playback.full() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert playback.full()
    playback.close()
    assert not playback._thread.is_alive()


def test_a_failing_renderer_is_heard_of(sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(type(sequence), "render", fail)
    playback = Playback(sequence)
    with pytest.raises(RuntimeError, match="renderer failed: no room"):
        take(playback)
    playback.close()


def test_an_open_way_cannot_repeat(sequence: Sequence) -> None:
    with pytest.raises(ValueError, match="only a closed sequence"):
        Playback(sequence, "repeat")
    with pytest.raises(ValueError, match="at_end must be one of"):
        Playback(sequence, "explode")


def judge_all(nuisances: Nuisances, count: int, rate: float = 10.0, seed: int = 1) -> list:
    trouble = Troublemaker(nuisances, seed)
    return [trouble.judge(i / rate, round(i / rate * SECOND)) for i in range(count)]


def test_no_nuisance_no_trouble() -> None:
    fates = judge_all(Nuisances(), 50)
    assert all(fate.published and fate.delay == 0 and not fate.half_size for fate in fates)
    assert [fate.stamp for fate in fates] == [i * SECOND // 10 for i in range(50)]


def test_chances_are_kept() -> None:
    fates = judge_all(Nuisances(drop=0.3, late=0.2, duplicate=0.1), 3000)
    assert np.mean([not fate.published for fate in fates]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([fate.delay > 0 for fate in fates]) == pytest.approx(0.2, abs=0.03)
    doubled = np.mean(np.diff([fate.stamp for fate in fates]) == 0)
    assert doubled == pytest.approx(0.1, abs=0.02)
    assert fates == judge_all(Nuisances(drop=0.3, late=0.2, duplicate=0.1), 3000)


def test_pauses_sizes_and_jumps_come_when_they_are_due() -> None:
    paused = [not fate.published for fate in judge_all(Nuisances(pause_every=2.0, pause_for=1.0), 60)]
    assert paused == ([False] * 20 + [True] * 10) * 2
    halved = [fate.half_size for fate in judge_all(Nuisances(resize_every=1.0), 30)]
    assert halved == [False] * 10 + [True] * 10 + [False] * 10
    stamps = [fate.stamp for fate in judge_all(Nuisances(jump_every=1.0, jump_by=-2.0), 30)]
    assert np.diff(stamps)[9] == SECOND // 10 - 2 * SECOND
    assert np.diff(stamps)[19] == SECOND // 10 + 2 * SECOND


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"pause_every": -1.0}, {"duplicate": -0.1}])
def test_impossible_chances_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Nuisances(**wrong)


def test_wheels_drift_a_little() -> None:
    perfect, worn = WheelOdometry(0.0, 0), WheelOdometry(0.02, 0)
    for _ in range(200):
        true, _ = perfect.roll(0.05, 0.01)
        wrong, step = worn.roll(0.05, 0.01)
    radius = 0.05 / 0.01  # the true way is an arc, of 2 rad
    assert np.allclose(true[:2, 3], [radius * np.sin(2), radius * (1 - np.cos(2))], atol=1e-3)
    assert 0.01 < np.linalg.norm(true[:2, 3] - wrong[:2, 3]) < 1.5
    assert step[0] != 0.05
