"""What the node leaves on disk: its journal, and the files that services save."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from camera_rig import SHORT, camera_stream, run
from posed_updates import update

from loger_ros.events import EventLog
from loger_ros.geometry import BODY_FROM_OPTICAL, transform
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.trajectory_files import read_tum
from loger_ros.ros.odometry import Odometer
from loger_ros.ros.recording import OutsideFolder, Recording, inside
from loger_ros.types import PosedFrame

pytest.importorskip("rclpy", reason="needs ROS 2")

from loger_ros.config import ConfigError, MapConfig, StreamConfig
from loger_ros.ros.config import NodeConfig, OutputConfig


def test_a_stream_that_cannot_be_made_leaves_its_journal_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.tum"
    with monkeypatch.context() as patched:
        patched.setattr("loger_ros.mapping.mapper.VoxelMap", Mock(side_effect=MemoryError("no room")))
        with pytest.raises(MemoryError):
            camera_stream(journal=journal)
    with monkeypatch.context() as patched:
        patched.setattr("loger_ros.ros.recording.Journal", Mock(side_effect=OSError("no disk")))
        with pytest.raises(OSError, match="no disk"):
            camera_stream(journal=journal)
    camera_stream(journal=journal).close()


def test_a_journal_that_cannot_be_renamed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("not here")

    config = NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config, journal=tmp_path / "journal.tum")
    camera._recording._limit = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        assert set(run(camera, *range(6))) == {"journal_not_rotated"}
    camera.close()
    assert len(read_journal(tmp_path / "journal.tum")) == 5


def test_a_mark_of_a_journal_that_was_renamed_since_takes_nothing_back(tmp_path: Path) -> None:
    config = NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config, journal=tmp_path / "journal.tum")
    run(camera, *range(3))
    mark = camera._recording.mark()
    camera._recording._limit = 0
    run(camera, *range(3, 7))
    camera._recording.rewind(mark)
    assert camera.events.counts["journal_not_rewound"] == 1
    assert camera.save_trajectory(tmp_path / "way.tum") > 0
    camera.close()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"folder": ""}, "output.folder is ''; it must not be empty"),
        ({"map_file": "map.obj"}, "must end in .ply or .pcd"),
        ({"map_file": "../map.ply"}, "no '..'"),
        ({"journal": "/journal.tum"}, "no leading /"),
        ({"trajectory_file": "a.ply", "map_file": "a.ply"}, "must differ"),
    ],
)
def test_names_that_cannot_work_are_refused_at_once(setting: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        OutputConfig(**setting)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "away").symlink_to("/")
    for folder in (tmp_path / "file", Path("~nobody-at-all/loger")):
        with pytest.raises(ValueError, match=f"output.folder {folder} cannot be used"):
            inside(folder, "map.ply", "output.map_file")
    with pytest.raises(OutsideFolder, match="a link there leads out"):
        inside(tmp_path, "away/map.ply", "output.map_file")
    assert inside(tmp_path, "sub/map.ply", "output.map_file").parent.is_dir()


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
    recording.start_over()
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
    recording.start_over()
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
