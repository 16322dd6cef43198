"""True depth from a bag: named, aligned, and found by its stamp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loger_ros.cli import main
from loger_ros.evaluation.sources import Choice, SourceError, open_source
from loger_ros.evaluation.sources.bag_depth import MOST_NEAR, BagDepth, metres_of, refuse_unaligned
from loger_ros.evaluation.sources.base import quiet_log
from loger_ros.world import Sequence, SequenceSpec, generate
from loger_ros.world.bag import write_bag

pytest.importorskip("rosbags.highlevel")


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return generate(SequenceSpec("rooms", frames=6, width=40, height=30), seed=4)


@pytest.fixture(scope="module")
def bag(sequence: Sequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags") / "mcap"
    write_bag(sequence, folder, depth=True)
    return folder


def test_depth_is_that_of_the_image(bag: Path, sequence: Sequence) -> None:
    source = open_source(bag, Choice(depth="depth/image"))
    true = sequence.render(0, len(sequence)).depth.numpy()
    for _ in range(2):  # another pass begins anew
        for i in (0, 1, 3, 5):
            seen = source.depth(sequence.stamps[i] + 4_000_000)
            np.testing.assert_allclose(seen, np.where(true[i] > 0, true[i], np.nan), rtol=1e-6)
    assert source.depth(sequence.stamps[-1] + 10**9) is None
    assert not source.problems.counts
    assert open_source(bag).depth(sequence.stamps[0]) is None, "it is never guessed"


def depth_image(**changes: Any) -> SimpleNamespace:
    """3x2 pixels in millimetres, with two bytes more in each row."""
    rows = np.zeros((2, 4), "<u2")
    rows[:, :3] = [[0, 1500, 2000], [1, 2, 3]]
    values = {
        "encoding": "16UC1", "is_bigendian": 0, "width": 3, "height": 2, "step": 8,
        "data": rows.view(np.uint8).reshape(-1), "header": SimpleNamespace(frame_id="camera"),
    }  # fmt: skip
    return SimpleNamespace(**values | changes)


def test_millimetres_and_metres() -> None:
    seen = metres_of(depth_image())
    assert np.isnan(seen[0, 0])
    np.testing.assert_allclose(seen[1], [0.001, 0.002, 0.003])
    metres = np.array([[np.inf, 1.5], [-1, np.nan]], ">f4")
    changes = {"width": 2, "encoding": "32FC1", "is_bigendian": 1, "data": metres.view(np.uint8).reshape(-1)}
    assert metres_of(depth_image(**changes))[0, 1] == 1.5
    assert np.isnan(metres_of(depth_image(**changes))).sum() == 3


class Broken:
    """A bag whose depth messages are what they are said to be; None is damaged, an error is the bag's."""

    def __init__(self, *stamps: float | Exception | None) -> None:
        self.stamps = stamps
        self.connections = [SimpleNamespace(topic="/depth", msgtype="")]

    def messages(self, connections: list) -> Iterator[tuple[Any, int, Any]]:
        for stamp in self.stamps:
            if isinstance(stamp, Exception):
                raise stamp
            yield connections[0], 0, stamp

    def deserialize(self, stamp: float | None, kind: str) -> SimpleNamespace:
        if stamp is None:
            raise ValueError("cut off")
        head = SimpleNamespace(stamp=SimpleNamespace(sec=int(stamp), nanosec=0), frame_id="camera")
        return depth_image(header=head)


def test_damage_costs_what_is_damaged() -> None:
    problems = quiet_log()
    bag = Broken(1, None, 2, 3, OSError("malformed"))
    depth = BagDepth(lambda: nullcontext(bag), "/depth", problems)
    assert [depth.at(second * 10**9) is not None for second in (1, 2, 3, 4)] == [True, True, True, False]
    assert [event.message for event in problems.recent] == [
        "a message of /depth is damaged (cut off); it is left out",
        "/depth cannot be read to its end (malformed); the rest has no true depth",
    ]


@pytest.mark.parametrize("stamp", [0, 5])
def test_images_without_a_stamp_of_their_own_fill_no_memory(stamp: float) -> None:
    depth = BagDepth(lambda: nullcontext(Broken(*[stamp] * 500)), "/depth", quiet_log())
    assert (depth.at(5 * 10**9) is not None) == (stamp == 5)
    assert len(depth._near) <= MOST_NEAR


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "rgb8"}, "32FC1 in metres"),
        ({"data": np.zeros(10, np.uint8)}, "3x2 with 10 bytes"),
        ({"step": 4}, "3x2"),
        ({"width": 0}, "0x2"),
    ],
)
def test_what_is_no_depth_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        metres_of(depth_image(**changes))


def test_depth_of_another_camera_is_refused(bag: Path, capsys: pytest.CaptureFixture) -> None:
    refuse_unaligned("/depth", depth_image(), "camera")
    with pytest.raises(SourceError, match="aligned_depth_to_color"):
        refuse_unaligned("/depth", depth_image(), "other")
    with pytest.raises(SourceError, match="topics of this type: /depth/image, /image"):
        open_source(bag, Choice(depth="/none"))
    assert main(["eval", "robot_rooms/0", "--depth", "/depth"]) == 2
    assert "--depth has no effect on robot_rooms/0" in capsys.readouterr().err
