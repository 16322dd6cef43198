from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.events import EventLog
from loger_ros.files import appearing_whole
from loger_ros.geometry import exp_rotation, quaternion, rotation_of, transform
from loger_ros.mapping import journal as journal_module
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.journal import Journal, read_journal
from loger_ros.mapping.point_files import read_pcd, read_ply, write_pcd, write_ply
from loger_ros.mapping.trajectory_files import (
    parse_tum,
    read_kitti,
    read_tum,
    stamp_of,
    stamp_text,
    write_kitti,
    write_tum,
)
from loger_ros.types import PosedFrame, Trajectory

START = 1_700_000_000_123_456_789  # seconds as a float are 100 ns off here


def trajectory(count=20, segments=1):
    rng = np.random.default_rng(0)
    poses = transform(exp_rotation(rng.normal(size=(count, 3)) * 2), rng.normal(size=(count, 3)) * 10)
    return Trajectory(
        tuple(START + i * 33_333_333 for i in range(count)),
        poses,
        tuple(i * segments // count for i in range(count)),
    )


def cloud(count=50):
    generator = torch.Generator().manual_seed(0)
    return Cloud(
        torch.randn(count, 3, generator=generator),
        torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8),
        torch.rand(count, generator=generator),
    )


def test_quaternions_are_the_published_ones():
    units = golden("units")
    assert np.allclose(quaternion(units["quat.R"].numpy()), units["quat.xyzw"].numpy(), atol=1e-6)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(stamp=st.integers(-(2**63), 2**63 - 1))
def test_stamps_come_back_to_the_nanosecond(stamp):
    assert stamp_of(stamp_text(stamp)) == stamp


def test_stamps_of_other_writers():
    assert stamp_of("12") == 12_000_000_000
    assert stamp_of("12.5") == 12_500_000_000
    assert stamp_of(".25") == 250_000_000
    assert stamp_of("1.403636579758555520000000000000000000e+09") == round(1403636579.7585555 * 1e9)
    for text in ("", "x", "1.2.3", "1.x", "nan", "--1", "1_0", "."):
        with pytest.raises(ValueError, match=r"stamp|float"):
            stamp_of(text)


@pytest.mark.parametrize("text", ["1403636579763555584", "1403636579763", "1.4e18", "1e400"])
def test_stamps_that_are_no_seconds_are_told(text):
    with pytest.raises(ValueError, match="Are these nanoseconds"):
        stamp_of(text)
    with pytest.raises(ValueError, match=r"x, line 1 .* Are these nanoseconds"):
        parse_tum(f"{text} 0 0 0 0 0 0 1", "x")


def test_tum_comes_back(tmp_path):
    source = trajectory(segments=3)
    path = tmp_path / "poses.txt"
    write_tum(path, source)
    again = read_tum(path)
    assert again.stamps == source.stamps
    assert again.segments == source.segments
    assert np.abs(again.T_map_camera - source.T_map_camera).max() < 1e-8
    assert list(tmp_path.iterdir()) == [path]


def test_kitti_comes_back(tmp_path):
    write_kitti(tmp_path / "poses.txt", trajectory())
    assert np.abs(read_kitti(tmp_path / "poses.txt") - trajectory().T_map_camera).max() < 1e-9
    text = (tmp_path / "poses.txt").read_text()
    (tmp_path / "poses.txt").write_text(f"# of the left camera\n{text}\n")
    assert len(read_kitti(tmp_path / "poses.txt")) == len(trajectory())


def test_evo_reads_what_we_write_and_we_read_what_evo_writes(tmp_path):
    file_interface = pytest.importorskip("evo.tools.file_interface")
    source = trajectory(segments=2)
    write_tum(tmp_path / "tum.txt", source)
    write_kitti(tmp_path / "kitti.txt", source)
    tum = file_interface.read_tum_trajectory_file(tmp_path / "tum.txt")
    assert np.allclose(tum.poses_se3, source.T_map_camera, atol=1e-8)
    assert np.allclose(tum.timestamps, [stamp / 1e9 for stamp in source.stamps], rtol=0, atol=3e-7)
    kitti = file_interface.read_kitti_poses_file(tmp_path / "kitti.txt")
    assert np.allclose(kitti.poses_se3, source.T_map_camera, atol=1e-9)
    file_interface.write_tum_trajectory_file(tmp_path / "evo.txt", tum)
    again = read_tum(tmp_path / "evo.txt")
    assert np.allclose(again.T_map_camera, source.T_map_camera, atol=1e-8)
    assert np.abs(np.array(again.stamps) - source.stamps).max() < 300  # evo holds stamps as floats
    file_interface.write_kitti_poses_file(tmp_path / "evo_kitti.txt", kitti)
    assert np.allclose(read_kitti(tmp_path / "evo_kitti.txt"), source.T_map_camera, atol=1e-8)


def test_evo_reads_a_journal(tmp_path):
    file_interface = pytest.importorskip("evo.tools.file_interface")
    source = trajectory(segments=2)
    journal = Journal(tmp_path / "journal.txt")
    journal.append(
        [
            PosedFrame(stamp, pose, np.eye(6), True, segment)
            for stamp, pose, segment in zip(source.stamps, source.T_map_camera, source.segments, strict=True)
        ]
    )
    read = file_interface.read_tum_trajectory_file(journal.path)
    assert np.allclose(read.poses_se3, source.T_map_camera, atol=1e-8)


@pytest.mark.parametrize(
    "line", ["1 2 3", "a 0 0 0 0 0 0 1", "1 0 0 0 0 0 0 0", "1 0 0 nan 0 0 0 1", "1 0 0 0 0 0 0 1 5", ","]
)
def test_a_line_that_is_no_pose_is_named(tmp_path, line):
    path = tmp_path / "poses.txt"
    path.write_text(f" # head\n1.5 0 0 0 0 0 0 1\n{line}\n")
    with pytest.raises(ValueError, match="line 3"):
        read_tum(path)
    path.write_text("1 2 3\n")
    with pytest.raises(ValueError, match="line 1"):
        read_kitti(path)


@pytest.mark.parametrize("line", ["2", "2.5 0 0 0 0 0", "2.5 0 0 0 0 0 0 -", "2.5 0 0 0 0 0 0 0."])
def test_a_line_that_was_torn_at_the_end_of_a_file_is_left_out_and_told(tmp_path, line):
    path, events = tmp_path / "poses.txt", EventLog(lambda message: None)
    path.write_text(f"1.5 0 0 0 0 0 0 1\n{line}")
    assert read_tum(path, events).stamps == read_tum(path).stamps == (1_500_000_000,)
    assert [event.message for event in events.recent] == [
        f"{path} ends within line 2, which is left out: was writing interrupted?"
    ]
    path.write_text("1.5 0 0 0 0 0 0 1\n2.5 0 0 0 0 0 0 1")
    assert len(read_tum(path, events)) == 2
    assert events.counts == {"torn_line": 1}
    for text in (line, f"{line}\n1.5 0 0 0 0 0 0 1"):
        path.write_text(text)
        with pytest.raises(ValueError, match="line 1 is not a pose"):
            read_tum(path, events)


def frames(start, count, segment=0):
    poses = trajectory(start + count).T_map_camera
    return [PosedFrame(START + i, poses[i], np.eye(6), True, segment) for i in range(start, start + count)]


def test_a_torn_journal_is_read_up_to_the_tear_and_continued(tmp_path):
    path = tmp_path / "deep" / "journal.txt"
    Journal(path).append(frames(0, 4))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 3):
        path.write_bytes(whole[:cut])
        poses = whole[:cut].count(b"\n") - 1
        assert len(read_journal(path)) == max(poses, 0)
        journal = Journal(path)
        journal.append(frames(5, 2))
        journal.close()
        again = read_journal(path)
        assert again.stamps == (*(START + i for i in range(max(poses, 0))), START + 5, START + 6)
        assert len(set(again.segments)) == (2 if poses > 0 else 1)


@pytest.mark.parametrize("zeros", [1, 100, 5000, 20_000])
def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path, zeros):
    for poses in (0, 4):  # before the header was on disk, and later
        path = tmp_path / f"{poses}.txt"
        if poses:
            Journal(path).append(frames(0, poses))
        with path.open("ab") as file:
            file.write(bytes(zeros))
        journal = Journal(path)
        journal.append(frames(10, 2))
        journal.close()
        assert b"\0" not in path.read_bytes()
        assert len(read_journal(path)) == poses + 2


def test_a_journal_that_was_emptied_while_it_grew_is_not_emptied_again(tmp_path):
    """The process that wrote it may have left a hole of zeros at the beginning."""
    path = tmp_path / "journal.txt"
    Journal(path).append(frames(0, 40))
    holed = bytes(200) + path.read_bytes()[200:]
    path.write_bytes(holed)
    with pytest.raises(ValueError, match="has lost its beginning"):
        Journal(path)
    assert path.read_bytes() == holed


def test_others_may_empty_or_remove_a_journal_while_it_grows_but_not_unnoticed(tmp_path):
    said = []
    journal = Journal(tmp_path / "journal.txt", EventLog(said.append))
    journal.append(frames(0, 5))
    whole = journal.path.read_bytes()
    os.truncate(journal.path, 0)
    journal.append(frames(5, 5))
    os.truncate(journal.path, len(whole) - 10)
    journal.append(frames(10, 2))
    assert len(read_journal(journal.path)) == 4 + 2
    mark = journal.mark()
    journal.append(frames(12, 2))
    journal.path.write_bytes(whole)  # a longer one: somebody restores a copy
    journal.rewind(mark)
    journal.append(frames(14, 2))
    assert len(read_journal(journal.path)) == 5 + 2
    assert [("by something else" in message) for message in said] == [True] * 3
    assert "poses recorded since then stay" in said[-1]  # that it was cut is not reported again
    assert journal.cuts == 3
    journal.path.write_text("mine" * 400)
    journal.append(frames(12, 2))
    assert "cannot be written" in said[-1]
    assert journal.path.read_text() == "mine" * 400
    journal.path.unlink()
    journal.append(frames(14, 2))
    journal.append(frames(16, 2))
    journal.close()
    assert sum("was removed" in message for message in said) > 1, "it is reported as long as it is true"


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_waited_for_room_is_written_at_the_end(tmp_path, monkeypatch):
    said = []
    journal = Journal(tmp_path / "journal.txt", EventLog(said.append))
    journal.append(frames(0, 5))
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", full_disk)
        journal.append(frames(5, 10))
    journal.close()
    assert len(read_journal(journal.path)) == 15
    assert "no pose was lost" in said[-1]


def test_a_disk_that_stays_full_costs_poses_and_says_how_many(tmp_path, monkeypatch):
    events = EventLog(lambda message: None)
    journal = Journal(tmp_path / "journal.txt", events)
    journal.append(frames(0, 5))
    monkeypatch.setattr(journal_module, "MOST_WAITING", 1000)
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", full_disk)
        journal.append(frames(5, 10))
        journal.append(frames(15, 3))
        with monkeypatch.context() as slow:
            slow.setattr("os.fsync", full_disk)
            journal.close()
    assert len(read_journal(journal.path)) == 5
    assert "13 poses are missing in" in events.recent[-2].message
    assert "may be lost in a power cut" in events.recent[-1].message

    other = Journal(tmp_path / "other.txt", events)
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", full_disk)
        other.append(frames(0, 5))
        other.append(frames(5, 20))
    other.append(frames(25, 1))
    assert "20 poses were lost meanwhile" in events.recent[-1].message
    other.close()
    assert len(read_journal(other.path)) == 6


def test_after_poses_that_found_no_room_another_segment_is_another_one_still(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.txt", EventLog(lambda message: None))
    monkeypatch.setattr(journal_module, "MOST_WAITING", 1000)
    journal.append(frames(0, 5))
    with monkeypatch.context() as full:
        full.setattr("os.pwrite", full_disk)
        journal.append(frames(5, 8))
        journal.append(frames(13, 5, segment=1))
    journal.append(frames(18, 5, segment=1))
    journal.close()
    assert read_journal(journal.path).segments == (0,) * 13 + (1,) * 5
    assert journal._lost == 0


def test_a_journal_that_is_taken_back_to_its_beginning_is_as_it_was(tmp_path):
    journal = Journal(tmp_path / "journal.txt")
    start = journal.mark()
    journal.append(frames(0, 3))
    once = journal.path.read_bytes()
    journal.rewind(start)
    journal.append(frames(0, 3))
    assert journal.path.read_bytes() == once


def test_a_journal_that_was_emptied_since_the_mark_is_not_taken_back_in_the_middle_of_a_line(tmp_path):
    journal = Journal(tmp_path / "journal.txt", EventLog(lambda message: None))
    journal.append(frames(0, 2))
    mark = journal.mark()
    os.truncate(journal.path, 0)  # as logrotate does
    journal.append(frames(2, 9))
    journal.rewind(mark)
    journal.append(frames(11, 2))
    assert len(read_journal(journal.path)) == 9 + 2


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG and more")
    with pytest.raises(ValueError, match="not a journal"):
        Journal(path)
    assert path.read_bytes() == b"\x89PNG and more"


@pytest.mark.parametrize(("write", "read"), [(write_ply, read_ply), (write_pcd, read_pcd)])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_clouds_come_back_exactly(tmp_path, write, read, count):
    source = cloud(count)
    write(tmp_path / "cloud", source)
    again = read(tmp_path / "cloud")
    assert torch.equal(again.points, source.points)
    assert torch.equal(again.colours, source.colours)
    assert torch.equal(again.confidence, source.confidence)


@pytest.mark.parametrize(("write", "read"), [(write_ply, read_ply), (write_pcd, read_pcd)])
def test_no_torn_or_foreign_file_crashes_a_reader(tmp_path, write, read):
    path = tmp_path / "cloud"
    write(path, cloud(3))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cloud"):
            read(path)
    for text in (b"POINTS 999999999999", b"element vertex 999999999999"):
        name = text.split(b" 9")[0]
        lines = [text if line.startswith(name) else line for line in whole.split(b"\n")]
        path.write_bytes(b"\n".join(lines))
        if text in lines:
            with pytest.raises(ValueError, match="announces"):
                read(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, make):
    path = tmp_path / "there"
    make(path)
    before = path.stat().st_mode
    with pytest.raises(FileExistsError, match="not a regular file"):
        write_ply(path, cloud(3))
    assert path.stat().st_mode == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path):
    path = tmp_path / "cloud.ply"
    names = ("ply.unfinished-k1ll_ed0", "ply.unfinished-just_now", "pcd.unfinished-k1ll_ed0", "ply.20261130")
    left, new, *others = (tmp_path / f".cloud.{name}" for name in names)
    for file in (left, new, *others):
        file.write_bytes(b"half")
    os.mkfifo(tmp_path / ".cloud.ply.unfinished-pipe_000")  # opening it would wait for a writer
    others.append(tmp_path / ".cloud.ply.unfinished-pipe_000")
    for file in (left, *others[:-1]):
        os.utime(file, (0, 0))
    with appearing_whole(path):
        assert not left.exists()
        (written,) = set(tmp_path.iterdir()) - {new, *others}
        os.utime(written, (0, 0))
        write_ply(path, cloud(3))
        assert written.exists()
    assert set(tmp_path.iterdir()) == {path, new, *others}


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "cloud.ply"
    write_ply(path, cloud(3))
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_ply(path, cloud(5))
    with pytest.raises(OSError, match="No space"):
        write_tum(path, trajectory())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_ply_file_with_something_before_the_vertices_is_refused(tmp_path):
    path = tmp_path / "cloud.ply"
    write_ply(path, cloud(3))
    other = b"element camera 1\nproperty float x\nelement vertex"
    path.write_bytes(path.read_bytes().replace(b"element vertex", other))
    with pytest.raises(ValueError, match="'element camera 1' comes before the vertices"):
        read_ply(path)
    path.write_bytes(path.read_bytes().replace(other, b"element vertex").replace(b"vertex 3", b"vertex"))
    with pytest.raises(ValueError, match="does not say how many vertices"):
        read_ply(path)


def test_open3d_reads_our_clouds_and_we_read_its(tmp_path):
    try:
        import open3d
    except ImportError as error:  # it needs system libraries that few headless machines have
        pytest.skip(f"Open3D cannot be imported: {error}")
    source = cloud()
    for name, write, read in (("c.ply", write_ply, read_ply), ("c.pcd", write_pcd, read_pcd)):
        write(tmp_path / name, source)
        loaded = open3d.io.read_point_cloud(str(tmp_path / name))
        assert np.allclose(loaded.points, source.points)
        assert np.allclose(np.asarray(loaded.colors) * 255, source.colours, atol=0.51)
        open3d.io.write_point_cloud(str(tmp_path / name), loaded)
        again = read(tmp_path / name)
        assert np.allclose(again.points, source.points)
        assert np.abs(again.colours.int() - source.colours.int()).max() <= 1


def test_rotations_survive_quaternions():
    rotations = exp_rotation(np.random.default_rng(0).normal(size=(200, 3)) * 3)
    assert np.allclose(rotation_of(quaternion(rotations)), rotations)
    half_turn = np.diag([-1.0, 1.0, -1.0])
    assert np.allclose(rotation_of(quaternion(half_turn)), half_turn)
