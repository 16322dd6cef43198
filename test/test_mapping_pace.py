"""Which frames go into the map, and how single ones are joined again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.mapping.pace import Pace
from loger_ros.types import PosedFrame, Update

SECOND = 1_000_000_000


def update(stamps: list[int]) -> Update:
    frames = tuple(PosedFrame(stamp, np.eye(4), np.eye(6), True, 0) for stamp in stamps)
    numbers = torch.tensor([stamp / SECOND for stamp in stamps]).view(-1, 1, 1, 1)
    return Update(frames, numbers, numbers.expand(-1, 2, 2, 3), numbers, 0, np.eye(4), 1.0)


def mapped(pace: Pace, stamps: list[int], chunk: int = 3) -> list[int]:
    parts = [stamps[i : i + chunk] for i in range(0, len(stamps), chunk)]
    return [due.frames[0].stamp for part in parts for due in pace.due(update(part))]


@pytest.mark.parametrize(("rate", "every"), [(5, 1), (10, 1), (15, 2), (20, 2), (30, 3)])
def test_cameras_that_are_not_exact_give_a_frame_each_tenth_of_a_second(rate: int, every: int) -> None:
    jitter = np.random.default_rng(0).uniform(-0.005, 0.005, 300)
    stamps = [round((i / rate + jitter[i]) * SECOND) for i in range(300)]
    assert mapped(Pace(0.1), stamps) == stamps[::every]


def test_no_interval_leaves_nothing_out() -> None:
    assert mapped(Pace(0), [5, 6, 7, 8]) == [5, 6, 7, 8]
    assert mapped(Pace(0.1), []) == []


def test_stamps_that_begin_anew_are_due_again() -> None:
    assert mapped(Pace(1), [5 * SECOND, SECOND, SECOND + 1, 3 * SECOND]) == [5 * SECOND, SECOND, 3 * SECOND]


def test_a_frame_that_is_kept_keeps_nothing_else() -> None:
    whole = update([0, 1, 2])
    (first,) = Pace(1).due(whole)
    for tensor in (first.images, first.local_points, first.confidence):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_frames_that_are_joined_are_those_of_the_parts() -> None:
    parts = [update([0, SECOND]), update([2 * SECOND])]
    whole = Update.joined(parts)
    assert [frame.stamp for frame in whole.frames] == [0, SECOND, 2 * SECOND]
    for name in ("images", "local_points", "confidence"):
        tensor = getattr(whole, name)
        assert tensor[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert Update.joined(parts[:1]) is parts[0]
