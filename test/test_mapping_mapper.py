"""What happens to final frames on their way into the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.config import CloudConfig, MapConfig
from loger_ros.events import EventLog
from loger_ros.mapping.mapper import Mapper
from loger_ros.types import PosedFrame, Update

SECOND = 1_000_000_000


def seen(stamp: int, width: int = 8) -> Update:
    """A wall 2 m ahead, from another place each time."""
    pose = np.eye(4)
    pose[0, 3] = 10.0 * stamp / SECOND
    points = torch.zeros(1, 8, width, 3)
    points[..., 0], points[..., 2] = torch.linspace(-1, 1, width), 2.0
    images = torch.full((1, 8, width, 3), 100, dtype=torch.uint8)
    frame = PosedFrame(stamp, pose, np.eye(6), True, 0)
    return Update((frame,), images, points, torch.full((1, 8, width, 1), 9.0), 0, np.eye(4), 1.0)


def mapper(together: int, **settings: float) -> tuple[Mapper, EventLog]:
    events = EventLog(lambda message: None)
    config = MapConfig(voxel_size=0.5, max_voxels=1000, **settings)  # type: ignore[arg-type]
    return Mapper(config, CloudConfig(edge_tolerance=0.0), events, "cpu", together), events


def test_frames_that_are_collected_make_the_same_map_and_a_look_at_it_takes_all() -> None:
    one, (many, events) = mapper(1)[0], mapper(4)
    for second in range(6):
        assert one.add(seen(second * SECOND)) == many.add(seen(second * SECOND)) == {second * SECOND}
        assert one.newest == second * SECOND
        assert many.newest == (0 if second < 3 else 3 * SECOND)
    assert torch.equal(many.cloud().points.sort(0).values, one.cloud().points.sort(0).values)
    assert many.newest == 5 * SECOND
    assert not events.counts


def test_only_frames_whose_time_has_come_go_in() -> None:
    paced, _ = mapper(1, interval=2.0)
    assert [bool(paced.add(seen(second * SECOND))) for second in range(4)] == [True, False, True, False]


def test_images_of_another_size_do_not_wait_together() -> None:
    mixed, events = mapper(4)
    mixed.add(seen(0))
    mixed.add(seen(SECOND, width=6))
    assert mixed.newest == 0
    assert len(mixed.cloud()) > 0
    assert mixed.newest == SECOND
    assert not events.counts


@pytest.mark.parametrize("where", ["owned", "joined"])
def test_frames_that_find_no_memory_on_their_way_are_told_and_do_not_pile_up(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("full")

    short, events = mapper(2)
    with monkeypatch.context() as patched:
        patched.setattr(Update, where, full)
        for second in range(4):
            short.add(seen(second * SECOND))
    assert not short._waiting
    assert events.counts == {"map_failed": 4 if where == "owned" else 2}
    assert f"{1 if where == 'owned' else 2} frames are not in the map" in events.recent[-1].message
    short.add(seen(4 * SECOND))
    assert len(short.cloud()) > 0


def test_what_is_cleared_is_gone_with_what_waits() -> None:
    full, _ = mapper(4)
    for second in range(6):
        full.add(seen(second * SECOND))
    full.clear()
    assert len(full.cloud()) == 0
    assert full.add(seen(0)) == {0}, "a new trajectory"


def test_points_out_of_reach_are_told() -> None:
    events = EventLog(lambda message: None)
    fine = Mapper(MapConfig(voxel_size=0.001, max_voxels=1000), CloudConfig(), events, "cpu")
    fine.add(seen(0))
    assert not events.counts
    fine.add(seen(200 * SECOND))  # 2 km away
    assert events.counts == {"map_ends": 1}
    assert "raise map.voxel_size" in events.recent[-1].message
