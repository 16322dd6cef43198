"""A network fails, a disk is full: the stream continues, the trajectory stays, and an event reports it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from fake_model import FakeModel
from test_stream_reconstructor import clip

from loger_ros.events import EventLog
from loger_ros.failures import loses_gpu, reason_of
from loger_ros.mapping.journal import Journal, read_journal
from loger_ros.stream import Reconstructor
from loger_ros.stream.inference import Answer
from loger_ros.types import Frame, Prediction

LOST_GPU = RuntimeError(
    "CUDA error: unspecified launch failure\n"
    "CUDA kernel errors might be asynchronously reported at some other API call\n"
)
OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


class Failing(FakeModel):
    """Fails as specified in the calls of ``step`` or ``encode`` with these numbers."""

    def __init__(self, calls, how, method="step"):
        super().__init__()
        self.calls, self.how, self.method, self.count = calls, how, method, 0

    def _fails(self, method):
        if method != self.method:
            return False
        self.count += 1
        return self.count - 1 in self.calls

    def encode(self, images):
        if self._fails("encode"):
            raise self.how
        return super().encode(images)

    def step(self, *args, **kwargs):
        failing = self._fails("step")
        if failing and isinstance(self.how, Exception):
            raise self.how
        prediction, memory = super().step(*args, **kwargs)
        return (self.how(prediction) if failing else prediction), memory


def bad_poses(value):
    return lambda p: Prediction(p.local_points, p.confidence, p.camera_poses * value)


def run(model, count=20, **settings):
    recon = Reconstructor(model, chunk_size=5, overlap=2, **settings)
    updates = [update for frame in clip(count) for update in recon.push(frame)]
    return recon, updates + recon.flush()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("alignment", ["none", "se3", "sim3"])
def test_not_finite_once_costs_the_memory_and_no_frame(alignment, value):
    recon, _ = run(Failing({2}, bad_poses(value)), alignment=alignment)
    assert recon.events.counts == {"prediction_not_finite": 1}
    result = recon.result()
    assert len(result.frames) == 20
    assert result.camera_poses.isfinite().all()
    assert {frame.segment for frame in result.frames} == {0}
    # The chunk after the new memory was joined, whatever the alignment: it starts at the shared frame.
    assert not torch.equal(result.chunk_poses[2], torch.eye(4))


def test_a_memory_that_cannot_begin_is_named_and_costs_no_pose_that_was_there():
    """No frames of a chunk are waiting then that could be discarded."""
    model = FakeModel()
    recon = Reconstructor(model, chunk_size=5, overlap=0)
    for frame in clip(8):
        recon.push(frame)
    begin = model.initial_memory
    fallen = RuntimeError("the GPU has fallen off the bus")
    failures = [None, fallen, fallen]  # for the last chunk; to start a new memory; once more for that

    def failing():
        if failures and (error := failures.pop(0)):
            raise error
        return begin()

    model.initial_memory = failing
    with pytest.raises(RuntimeError, match="fallen off the bus"):
        recon.flush()
    assert recon.lost == 0
    owed = [frame.stamp for update in recon.flush() for frame in update.frames]
    assert owed == [frame.stamp for frame in clip(8)[5:]]
    for frame in clip(13)[8:]:
        recon.push(frame)
    failures.append(RuntimeError("again"))  # now nothing is waiting
    with pytest.raises(RuntimeError, match="again"):
        recon.flush()


def test_not_finite_twice_loses_the_chunk_only():
    recon, updates = run(Failing({2, 3}, bad_poses(float("nan"))))
    assert recon.events.counts == {"prediction_not_finite": 1, "chunk_lost": 1}
    assert "3 frames" in recon.events.recent[-1].message
    stamps = [frame.stamp for frame in clip(20)]
    frames = recon.result().frames
    # Chunks end after 5, 8 and 11 frames; the third is lost, its shared frames had a pose already.
    assert [frame.stamp for frame in frames] == stamps[:8] + stamps[11:]
    assert [frame.segment for frame in frames] == [0] * 8 + [1] * 9
    final = [frame.stamp for update in updates for frame in update.frames if frame.final]
    assert final == [frame.stamp for frame in frames]


def test_points_that_are_not_finite_are_said():
    def holes(prediction):
        points = prediction.local_points.clone()
        points[0, 1, 0, :] = float("inf")
        return Prediction(points, prediction.confidence, prediction.camera_poses)

    recon, _ = run(Failing({1}, holes))
    assert recon.events.counts == {"points_not_finite": 1}
    assert len(recon.result().frames) == 20


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("no memory"),
    ],
)
@pytest.mark.parametrize("method", ["step", "encode"])
def test_out_of_memory_once_is_tried_again(error, method):
    recon, _ = run(Failing({2}, error, method))
    assert recon.events.counts == {"out_of_memory": 1}
    expected, _ = run(FakeModel())
    assert torch.equal(recon.result().camera_poses, expected.result().camera_poses)


def test_out_of_memory_for_good_keeps_the_trajectory_and_names_the_cure(tmp_path):
    events = EventLog()
    journal = Journal(tmp_path / "poses.txt", events)
    model = Failing(set(range(2, 100)), OUT_OF_MEMORY("CUDA out of memory"))
    recon, _ = run(model, record=journal, events=events)
    assert events.counts["chunk_lost"] >= 2
    assert "lower stream.chunk_size" in events.recent[-1].message
    stamps = tuple(frame.stamp for frame in clip(8))
    assert recon.result().stamps == stamps
    assert read_journal(journal.path).stamps == stamps


def test_a_lost_gpu_is_told_in_one_line_with_the_cure():
    events = EventLog()
    recon = Reconstructor(Failing({0}, LOST_GPU), chunk_size=5, overlap=2, events=events)
    *before, last = clip(5)
    for frame in before:
        recon.push(frame)
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        recon.push(last)
    (event,) = events.recent
    assert event.name == "chunk_lost"
    assert "\n" not in event.message
    assert "unspecified launch failure: the GPU fails. See dmesg" in event.message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LOST_GPU, "CUDA error: unspecified launch failure: the GPU fails. See dmesg"),
        (RuntimeError("CUDA error: out of memory\nmore"), "out of memory (CUDA error: out of memory): x"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "out of memory (CUDA error: CUBLAS_STAT"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling c"), "out of memory (CUDA"),
        (RuntimeError("CUDA driver error: out of memory"), "out of memory (CUDA driver"),
        (RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at c"), "out of memory (NVML"),  # on a Jetson
        (RuntimeError("CUDA error: no kernel image is available for execution"), "(see loger doctor)"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling c"), "(see loger doctor)"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU fails"),
        (ValueError("CUDA error is a word"), "ValueError: CUDA error is a word"),
        (ValueError("CUDA error: out of memory: as said"), "ValueError: CUDA error: out of memory: as said"),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
def test_what_an_error_means(error, said):
    assert said in reason_of(error, "x")


def test_a_gpu_is_lost_where_it_computes_nothing_more(monkeypatch):
    cpu = torch.device("cpu")
    assert loses_gpu(LOST_GPU, cpu) == "", "it computes"
    for full, lost in ((False, True), (True, False)):
        answer = OUT_OF_MEMORY("CUDA out of memory") if full else RuntimeError("CUDA error: the same")
        with monkeypatch.context() as patch:
            patch.setattr(torch, "ones", Mock(side_effect=answer))
            assert ("the GPU is lost to this process" in loses_gpu(LOST_GPU, cpu)) == lost
            assert not loses_gpu(RuntimeError("CUDA error: no kernel image is available"), cpu)
            assert not loses_gpu(RuntimeError("something else"), cpu)


def test_another_error_is_passed_on_and_the_stream_is_usable_after_it(tmp_path):
    journal = Journal(tmp_path / "poses.txt")
    recon = Reconstructor(Failing({1}, RuntimeError("driver gone")), chunk_size=5, overlap=2, record=journal)
    frames = clip(20)
    for frame in frames[:7]:
        recon.push(frame)
    with pytest.raises(RuntimeError, match="driver gone"):
        recon.push(frames[7])
    assert read_journal(journal.path).stamps == tuple(frame.stamp for frame in frames[:5])
    for frame in frames[8:]:
        recon.push(frame)
    recon.flush()
    assert read_journal(journal.path).stamps == tuple(f.stamp for f in [*frames[:5], *frames[8:]])


def test_final_poses_that_an_error_kept_back_come_with_the_next_frame():
    recon = Reconstructor(Failing({1}, RuntimeError("driver gone")), chunk_size=5, overlap=2)
    frames = clip(12)
    final = []
    for frame in frames:
        try:
            updates = recon.push(frame)
        except RuntimeError:
            continue
        final += [posed.stamp for update in updates for posed in update.frames if posed.final]
    final += [posed.stamp for update in recon.flush() for posed in update.frames if posed.final]
    assert final == [frame.stamp for frame in [*frames[:5], *frames[8:]]]


class FullTwice(Journal):
    """Has room again only after the loss that it caused should have been recorded."""

    refusals = 2

    def append(self, frames):
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(frames)


def test_what_can_neither_be_recorded_nor_settled_is_counted_and_a_segment_begins(tmp_path):
    journal = FullTwice(tmp_path / "poses.txt")
    recon = Reconstructor(FakeModel(), chunk_size=5, overlap=2, alignment="se3", record=journal)
    frames = clip(20)
    for frame in frames[:4]:
        recon.push(frame)
    with pytest.raises(OSError, match="No space"):
        recon.push(frames[4])
    assert (recon.lost, recon.events.counts) == (5, {"chunk_lost": 1})
    for frame in frames[5:]:
        recon.push(frame)
    recon.flush()
    assert recon.result().stamps == read_journal(journal.path).stamps == tuple(f.stamp for f in frames[5:])
    assert {frame.segment for frame in recon.result().frames} == {1}


def test_a_tail_is_not_lost_where_the_frame_that_ended_it_fails():
    """The network fails at the first frame after a gap; by then, the segment before had its tail."""
    model = Failing({3}, RuntimeError("driver gone"), "encode")
    recon = Reconstructor(model, chunk_size=5, overlap=2, encode_batch=1, max_gap=5)
    frames = clip(3)
    updates = [update for frame in frames for update in recon.push(frame)]
    late = [Frame(frame.stamp + 60 * 10**9, frame.image) for frame in clip(8)]
    failures = 0
    for frame in late:
        try:
            updates += recon.push(frame)
        except RuntimeError:
            failures += 1
    updates += recon.flush()
    assert failures == 1
    said = [posed.stamp for update in updates for posed in update.frames if posed.final]
    assert said[:3] == [frame.stamp for frame in frames]


def test_no_memory_after_the_network_costs_the_chunk_alone(monkeypatch):
    told, calls = Answer.of_cameras, []

    def full(self, *turns):
        calls.append(None)
        if len(calls) == 2:
            raise OUT_OF_MEMORY("CUDA out of memory")
        return told(self, *turns)

    monkeypatch.setattr(Answer, "of_cameras", full)
    recon, updates = run(FakeModel())
    assert recon.events.counts == {"chunk_lost": 1}
    assert "lower stream.chunk_size or stream.resolution" in recon.events.recent[-1].message
    assert len(recon.result().frames) == 17
    assert len([1 for update in updates for frame in update.frames if frame.final]) == 17


def test_a_lost_memory_begins_a_segment_where_no_frame_is_shared():
    model = Failing({2}, bad_poses(float("nan")))
    recon = Reconstructor(model, chunk_size=5, overlap=0)
    for frame in clip(20):
        recon.push(frame)
    recon.flush()
    frames = recon.result().frames
    assert [frame.segment for frame in frames] == [0] * 10 + [1] * 10
    assert np.allclose(frames[10].T_map_camera, frames[9].T_map_camera, atol=1e-5), "as last seen"
    before, after = (np.trace(frames[i].covariance) for i in (9, 10))
    assert after > before


def test_a_preview_whose_memory_is_lost_is_not_shown_where_no_frame_is_shared():
    model = Failing({2}, bad_poses(float("nan")))  # the second chunk's preview
    recon = Reconstructor(model, chunk_size=4, overlap=0, provisional_every=3)
    shown = [update.frames[-1] for frame in clip(8) for update in recon.push(frame)]
    assert recon.events.counts["prediction_not_finite"] == 1
    assert [frame.segment for frame in shown] == [0, 0, 0]
    assert len(recon.result().frames) == 8


def test_a_preview_that_fails_costs_nothing_but_itself():
    recon, _ = run(Failing({0, 1}, OUT_OF_MEMORY("full")), provisional_every=3)
    assert recon.events.counts == {"out_of_memory": 1, "preview_failed": 1}
    expected, _ = run(FakeModel())
    assert torch.equal(recon.result().camera_poses, expected.result().camera_poses)


def test_the_stream_goes_on_with_a_full_disk():
    events = EventLog()
    recon, _ = run(FakeModel(), record=Journal("/dev/full", events), events=events)
    assert events.counts["journal_failed"] >= 3
    assert "No space left" in events.recent[0].message
    assert len(recon.result().frames) == 20


def test_poses_wait_for_room_on_the_disk(tmp_path, monkeypatch):
    events = EventLog()
    journal = Journal(tmp_path / "poses.txt", events)
    room = 200  # bytes; the disk fills in the middle of a line
    real = os.pwrite

    def pwrite(file, data, offset):
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: room - offset], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    recon = Reconstructor(FakeModel(), chunk_size=5, overlap=2, record=journal, events=events)
    frames = clip(20)
    for frame in frames[:10]:
        recon.push(frame)
    assert len(read_journal(journal.path)) == 1  # and a torn second line
    monkeypatch.setattr(os, "pwrite", real)
    for frame in frames[10:]:
        recon.push(frame)
    recon.flush()
    assert events.counts["journal_recovered"] == 1
    trajectory = read_journal(journal.path)
    assert trajectory.stamps == tuple(frame.stamp for frame in frames)
    assert np.allclose(trajectory.T_map_camera, recon.result().trajectory.T_map_camera, atol=1e-6)


def test_a_journal_that_waits_too_long_is_bounded(monkeypatch):
    monkeypatch.setattr("loger_ros.mapping.journal.MOST_WAITING", 1000)
    events = EventLog()
    journal = Journal("/dev/full", events)
    run(FakeModel(), count=60, record=journal, events=events)
    assert events.counts["journal_overflow"] > 3
    assert len(journal._waiting) <= 1000


def test_a_kill_loses_the_current_chunk_at_most(tmp_path):
    path = tmp_path / "poses.txt"
    script = textwrap.dedent(
        """
        import sys
        from fake_model import FakeModel
        from test_stream_reconstructor import clip
        from loger_ros.mapping.journal import Journal
        from loger_ros.stream import Reconstructor
        recon = Reconstructor(FakeModel(), chunk_size=5, overlap=2, record=Journal(sys.argv[1]))
        for frame in clip(22):
            recon.push(frame)
        print("pushed", flush=True)
        sys.stdin.read()
        """
    )
    folder = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.path.dirname(folder)])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout.readline() == b"pushed\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    # Complete chunks end at 5, 8, ... 20 frames; the last two of each are provisional.
    assert read_journal(path).stamps == tuple(frame.stamp for frame in clip(18))


def test_a_restored_stream_takes_its_poses_back(tmp_path):
    journal = Journal(tmp_path / "poses.txt")
    recon = Reconstructor(FakeModel(), chunk_size=5, overlap=2, record=journal)
    frames = clip(20)
    for frame in frames[:9]:
        recon.push(frame)
    snapshot = recon.snapshot()
    for frame in frames[9:]:
        recon.push(frame)
    recon.flush()
    whole = journal.path.read_bytes()
    recon.restore(snapshot)
    assert len(read_journal(journal.path)) == 6
    for frame in frames[9:]:
        recon.push(frame)
    recon.flush()
    assert journal.path.read_bytes() == whole
