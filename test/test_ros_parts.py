"""Parts of the node that need no second process."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from posed_updates import random_pose

pytest.importorskip("rclpy", reason="needs ROS 2")

from loger_ros.geometry import BODY_FROM_OPTICAL, exp_rotation, inverse, mount, quaternion
from loger_ros.ros.loger_node import LogerNode
from loger_ros.ros.services import Services
from loger_ros.ros.transforms import StaticTransforms
from loger_ros.ros.worker import MOST_REQUESTS, Answer, Refused, Worker

# ---- transforms ---------------------------------------------------------------------------------------


def edge(parent: str, child: str, pose: np.ndarray) -> SimpleNamespace:
    x, y, z, w = quaternion(pose[:3, :3])
    place = SimpleNamespace(**dict(zip("xyz", pose[:3, 3], strict=True)))
    turn = SimpleNamespace(x=x, y=y, z=z, w=w)
    motion = SimpleNamespace(translation=place, rotation=turn)
    return SimpleNamespace(header=SimpleNamespace(frame_id=parent), child_frame_id=child, transform=motion)


def test_a_way_through_the_tree_is_found_up_and_down() -> None:
    rng = np.random.default_rng(4)
    mast, head, camera, base = (random_pose(rng) for _ in range(4))
    tree = StaticTransforms()
    assert tree.between("base", "camera") is None
    tree.hear(SimpleNamespace(transforms=[edge("root", "mast", mast), edge("/mast", "head", head)]))
    tree.hear(SimpleNamespace(transforms=[edge("head", "camera", camera)]))
    assert tree.between("base", "camera") is None
    tree.hear(SimpleNamespace(transforms=[edge("root", "base", base)]))
    found = tree.between("base", "/camera")
    assert found is not None
    assert np.allclose(found, inverse(base) @ mast @ head @ camera)
    assert tree.above("/camera") == ["head", "mast", "root"]
    assert not tree.above("root")
    same = tree.between("camera", "camera")
    assert same is not None
    assert np.allclose(same, np.eye(4))


def test_nonsense_in_the_tree_does_no_harm() -> None:
    said: list[str] = []
    tree = StaticTransforms(said.append)
    loop = [edge("a", "b", np.eye(4)), edge("b", "a", np.eye(4)), edge("c", "c", np.eye(4))]
    crooked = edge("base", "camera", np.eye(4))
    crooked.transform.rotation.w = 0.0
    endless = edge("base", "camera", np.eye(4))
    endless.transform.translation.x = float("nan")
    for _ in range(2):
        tree.hear(SimpleNamespace(transforms=[*loop, crooked, endless]))
    assert len(said) == 2
    assert "c → c of /tf_static is ignored: its parent is itself" in said[0]
    assert "base → camera of /tf_static is ignored: its numbers" in said[1]
    assert tree.between("base", "camera") is None
    assert tree.between("a", "camera") is None


def test_a_mount_is_read_as_people_say_it() -> None:
    """0.3 rad down: what lies ahead and below is in the middle of the picture."""
    T_base_camera = mount((0.1, 0.0, 0.5), (0.0, 0.3, 0.0))
    seen = inverse(T_base_camera) @ np.array([0.1 + np.cos(0.3), 0.0, 0.5 - np.sin(0.3), 1.0])
    assert np.allclose(seen, [0, 0, 1, 1])
    left = inverse(T_base_camera) @ np.array([1.0, 1.0, 0.5, 1.0])
    assert left[0] < 0  # left of the robot is left in the picture, whose x looks right
    aside = mount((0.0, 0.0, 0.0), (0.0, 0.0, np.pi / 2))[:3, :3]
    assert np.allclose(aside @ [0, 0, 1], [0, 1, 0]), "a quarter turn of yaw looks to the left"
    leaning = mount((0.0, 0.0, 0.0), (np.pi / 2, 0.0, 0.0))[:3, :3]
    assert np.allclose(leaning @ [1, 0, 0], [0, 0, -1]), "roll to the right takes the right side down"
    roll, pitch, yaw = 0.3, -0.5, 0.8
    one_by_one = [exp_rotation(np.array(turn)) for turn in ([0, 0, yaw], [0, pitch, 0], [roll, 0, 0])]
    expected = one_by_one[0] @ one_by_one[1] @ one_by_one[2] @ BODY_FROM_OPTICAL[:3, :3]
    assert np.allclose(mount((0.0, 0.0, 0.0), (roll, pitch, yaw))[:3, :3], expected)


# ---- the worker ---------------------------------------------------------------------------------------


class Slow:
    """A stream whose frames take as long as the test wants."""

    def __init__(self) -> None:
        self.frames = 0
        self.taken = threading.Event()
        self.go_on = threading.Event()

    def step(self) -> bool:
        if not self.frames:
            return False
        self.frames -= 1
        self.taken.set()
        return self.go_on.wait(60)


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_requests_wait_for_the_frame_at_hand(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(30)
    answer = worker.ask(lambda: slow.frames)
    with pytest.raises(TimeoutError):
        answer.result(0.05)
    assert worker.busy_for() > 0.04  # what the watchdog looks at
    slow.go_on.set()
    assert answer.result(30) == 0
    assert worker.stop(30)
    with pytest.raises(Refused):
        worker.ask(lambda: None).result(30)


def test_a_hung_frame_does_not_hang_the_end(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(30)
    left = worker.ask(lambda: None)
    started = time.monotonic()
    assert not worker.stop(0.1)
    assert time.monotonic() - started < 30
    with pytest.raises(Refused):
        left.result(30)
    slow.go_on.set()
    assert worker.stop(30)


def test_requests_beyond_all_measure_are_refused(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(30)
    answers = [worker.ask(lambda: "done") for _ in range(MOST_REQUESTS + 1)]
    with pytest.raises(Refused, match="are already waiting for the network"):
        answers[-1].result(30)
    slow.go_on.set()
    assert [answer.result(30) for answer in answers[:-1]] == ["done"] * MOST_REQUESTS
    assert worker.stop(30)


def test_an_error_belongs_to_who_asked(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda: 1 // 0).result(30)
    assert worker.ask(lambda: "alive").result(30) == "alive"
    assert worker.stop(30)


def test_who_awaits_an_answer_is_woken_and_gets_it() -> None:
    woken: list[bool] = []
    answer = Answer(lambda: woken.append(True))
    waiting = answer.__await__()
    next(waiting)
    answer.settle(7)
    assert woken
    with pytest.raises(StopIteration) as ended:
        next(waiting)
    assert ended.value.value == 7


def test_a_transition_that_rclpy_raises_about_is_answered() -> None:
    """That of Humble and Jazzy does; newer ones answer by themselves."""
    said: list[str] = []

    def change(request: object, response: object) -> None:
        raise RuntimeError("no such transition")

    node = SimpleNamespace(get_logger=lambda: SimpleNamespace(error=said.append))
    answer = LogerNode._or_refused(node, change)  # type: ignore[arg-type]
    assert answer(None, SimpleNamespace(success=True)).success is False
    assert "no such transition" in said[0]


@pytest.mark.parametrize(("ends_by", "owed"), [(RuntimeError, []), (KeyboardInterrupt, [Path("map.ply")])])
def test_a_file_stays_promised_where_nobody_hears_why_it_is_not_there(
    ends_by: type[BaseException], owed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services.__new__(Services)
    services._streams, services._owed, services._writing = [SimpleNamespace()], {}, []  # type: ignore[list-item]
    monkeypatch.setattr(services, "_file", lambda stream, setting: Path("map.ply"))
    with pytest.raises(ends_by), services._promised("map_file"):
        raise ends_by
    assert services.unwritten(0) == owed
