"""Parts of the node that need no second process."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from posed_updates import random_pose, update

from loger_ros.events import EventLog
from loger_ros.geometry import exp_rotation, inverse, quaternion, transform
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.trajectory_files import read_tum
from loger_ros.ros.config import HealthConfig
from loger_ros.ros.health import CameraHealth
from loger_ros.ros.inputs import Inputs
from loger_ros.ros.loger_node import LogerNode
from loger_ros.ros.odometry import BODY_FROM_OPTICAL, Odometer
from loger_ros.ros.recording import OutsideFolder, Recording, inside
from loger_ros.ros.statistics import Statistics
from loger_ros.ros.transforms import StaticTransforms, mount
from loger_ros.ros.worker import MOST_REQUESTS, Answer, Refused, Worker
from loger_ros.types import PosedFrame

SECOND = 1_000_000_000


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
    tree = StaticTransforms()
    loop = [edge("a", "b", np.eye(4)), edge("b", "a", np.eye(4)), edge("c", "c", np.eye(4))]
    crooked = edge("base", "camera", np.eye(4))
    crooked.transform.rotation.w = 0.0
    endless = edge("base", "camera", np.eye(4))
    endless.transform.translation.x = float("nan")
    tree.hear(SimpleNamespace(transforms=[*loop, crooked, endless]))
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


# ---- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x.ply", "/etc/x.ply", "a/../../x.ply", "", ".", "link/x.ply"])
def test_no_file_leaves_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(OutsideFolder, match="not inside"):
        inside(folder, name, "output.map_file")
    assert inside(folder, "a/b.ply", "output.map_file").parent.is_dir()


def posed(start: int, count: int, segment: int = 0) -> list[PosedFrame]:
    poses = {i: transform(np.eye(3), np.array([0.0, 0, i])) for i in range(start, start + count)}
    return list(update(poses, segment, final=count).frames)


def test_a_recording_saves_what_came_since_the_reset(tmp_path: Path) -> None:
    odometer = Odometer(BODY_FROM_OPTICAL)
    recording = Recording(tmp_path / "journal.tum", 10**9, odometer, EventLog())
    recording.append(posed(0, 3))
    recording.begin_anew()
    odometer.restart()
    recording.append(posed(10, 4))
    assert recording.save(tmp_path / "saved.tum") == 4
    saved = read_tum(tmp_path / "saved.tum")
    assert saved.stamps == (10, 11, 12, 13)
    assert np.allclose(saved.T_map_camera[:, :3, 3], [[i, 0, 0] for i in range(4)])  # ahead is x
    recording.close()
    journal = read_journal(tmp_path / "journal.tum")
    assert (journal.stamps, journal.segments) == ((0, 1, 2, 10, 11, 12, 13), (0, 0, 0, 1, 1, 1, 1))


def test_a_journal_has_one_writer_and_an_end(tmp_path: Path) -> None:
    events = EventLog(lambda message: None)
    path = tmp_path / "journal.tum"
    recording = Recording(path, 500, Odometer(np.eye(4)), events)
    with pytest.raises(ValueError, match="written by another process"):
        Recording(path, 500, Odometer(np.eye(4)), events)
    for start in range(0, 60, 3):
        recording.append(posed(start, 3))
    recording.close()
    assert events.counts["journal_rotated"] >= 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["journal.tum", "journal.tum.old"]
    assert all(file.stat().st_size < 1000 for file in tmp_path.iterdir())
    assert read_journal(path).stamps[-1] == 59
    Recording(path, 500, Odometer(np.eye(4)), events).close()  # free again


def test_a_way_that_fills_more_than_one_journal_is_saved_from_both(tmp_path: Path) -> None:
    events = EventLog(lambda message: None)
    before = Recording(tmp_path / "journal.tum", 10**9, Odometer(np.eye(4)), events)
    before.append(posed(0, 3))  # of another run
    before.close()
    recording = Recording(tmp_path / "journal.tum", 700, Odometer(np.eye(4)), events)
    for start in range(10, 20, 2):
        recording.append(posed(start, 2))
    assert events.counts["journal_rotated"] == 1
    recording.append(posed(20, 2, 5))  # of a second segment
    assert recording.save(tmp_path / "saved.tum") == 12
    saved = read_tum(tmp_path / "saved.tum")
    assert saved.stamps == tuple(range(10, 22))
    assert saved.segments == (0,) * 10 + (1,) * 2
    recording.begin_anew()
    recording.append(posed(30, 2))
    assert recording.save(tmp_path / "saved.tum") == 2
    recording.close()


def test_a_journal_is_not_renamed_while_its_poses_wait_for_room_or_where_no_other_can_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = EventLog(lambda message: None)
    recording = Recording(tmp_path / "journal.tum", 400, Odometer(np.eye(4)), events)
    recording.append(posed(0, 2))

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        for start in range(2, 20, 2):
            recording.append(posed(start, 2))
    assert not events.counts["journal_rotated"]
    recording.append(posed(20, 2))
    with monkeypatch.context() as patched:
        patched.setattr("loger_ros.ros.recording.Journal", full)
        recording.append(posed(22, 2))
    assert events.counts["journal_not_rotated"] == 1
    recording.append(posed(24, 2))
    assert events.counts["journal_rotated"] == 1
    recording.close()
    assert len(read_tum(tmp_path / "journal.tum.old")) + len(read_tum(tmp_path / "journal.tum")) == 26


def test_a_segment_that_begins_with_a_journal_is_not_joined_to_the_one_before(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "journal.tum", 400, Odometer(np.eye(4)), EventLog(lambda message: None))
    old = tmp_path / "journal.tum.old"
    for start in range(0, 100, 2):
        segment = int((tmp_path / "journal.tum").exists() and (tmp_path / "journal.tum").stat().st_size > 400)
        recording.append(posed(start, 2, segment))
        if old.exists():
            break
    assert recording.save(tmp_path / "saved.tum") == start + 2
    assert read_tum(tmp_path / "saved.tum").segments == (0,) * start + (1,) * 2
    old.unlink()
    assert recording.save(tmp_path / "saved.tum") == 2, "somebody took the old one away"
    recording.close()


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
        return self.go_on.wait(10)


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_requests_wait_for_the_frame_at_hand(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(5)
    answer = worker.ask(lambda: slow.frames)
    with pytest.raises(TimeoutError):
        answer.result(0.05)
    assert worker.busy_for() > 0.04  # what the watchdog looks at
    slow.go_on.set()
    assert answer.result(5) == 0
    assert worker.stop(5)
    with pytest.raises(Refused):
        worker.ask(lambda: None).result(1)


def test_a_hung_frame_does_not_hang_the_end(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(5)
    left = worker.ask(lambda: None)
    started = time.monotonic()
    assert not worker.stop(0.1)
    assert time.monotonic() - started < 2
    with pytest.raises(Refused):
        left.result(1)
    slow.go_on.set()
    assert worker.stop(5)


def test_requests_beyond_all_measure_are_refused(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    slow.frames = 1
    worker.wake()
    assert slow.taken.wait(5)
    answers = [worker.ask(lambda: "done") for _ in range(MOST_REQUESTS + 1)]
    with pytest.raises(Refused, match="wait for the network already"):
        answers[-1].result(1)
    slow.go_on.set()
    assert [answer.result(5) for answer in answers[:-1]] == ["done"] * MOST_REQUESTS
    assert worker.stop(5)


def test_an_error_belongs_to_who_asked(slow: Slow) -> None:
    worker = Worker([slow])
    worker.start()
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda: 1 // 0).result(5)
    assert worker.ask(lambda: "alive").result(5) == "alive"
    assert worker.stop(5)


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


# ---- health -------------------------------------------------------------------------------------------


def test_health_names_what_hangs_and_forgets_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    health_module = pytest.importorskip("loger_ros.ros.health", reason="needs ROS 2")
    now = [100.0]
    monkeypatch.setattr(health_module.time, "monotonic", lambda: now[0])
    events, statistics = EventLog(lambda message: None), Statistics()
    health = health_module.CameraHealth(events, statistics)
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
    assert "no odometry comes of them" in trouble.message
    statistics.happened("odometry")
    now[0] += 11
    assert not health.troubles(settings, None, 1.0, False)
    events.add("queue_full", 0, "raise this or lower that")
    assert any("lower that" in t.message for t in health.troubles(settings, None, 0.0, False))
    now[0] += 11
    assert not health.troubles(settings, None, 0.0, False)


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
    health = pytest.importorskip("loger_ros.ros.health", reason="needs ROS 2")

    def look() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    (status,) = health.told_anyway("loger_node: node", "active", look)
    assert status.level == health.ERROR
    assert "device-side assert triggered" in status.message
    assert "restart the node" in status.message


def test_the_time_of_a_chunk_is_guessed_before_there_was_one() -> None:
    session = pytest.importorskip("loger_ros.ros.session", reason="needs ROS 2")
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
    health_module = pytest.importorskip("loger_ros.ros.health", reason="needs ROS 2")
    now = [100.0]
    monkeypatch.setattr(health_module.time, "monotonic", lambda: now[0])
    health = health_module.CameraHealth(EventLog(lambda message: None), Statistics())
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
    outputs = pytest.importorskip("loger_ros.ros.outputs", reason="needs ROS 2")
    way = outputs.ThinnedWay(10, "map")
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


# ---- inputs -------------------------------------------------------------------------------------------


def test_what_dds_loses_is_told() -> None:
    events, statistics = EventLog(lambda message: None), Statistics()
    inputs = SimpleNamespace(_events=events, _statistics=statistics, topic="/image")
    Inputs._lost(inputs, SimpleNamespace(total_count_change=3))  # type: ignore[arg-type]
    assert statistics.dropped["lost_on_the_way"] == 3
    assert "Fast DDS profile" in events.recent[-1].message
    assert CameraHealth(events, statistics).values()["dropped_lost_on_the_way"] == "3"
