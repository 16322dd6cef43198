"""What must hold for every stream, tested on a fake network that is fast enough for many of them."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from batch_merge import batch, windows
from fake_model import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.config import ALIGNMENTS, SCALE_MODES, ConfigError, StreamConfig
from loger_ros.geometry import inverse, mount
from loger_ros.model.carried import Carried
from loger_ros.stream import Reconstructor
from loger_ros.stream.continuity import Continuity
from loger_ros.stream.prepare import target_size
from loger_ros.types import Camera, Frame

FEW = settings(max_examples=12, deadline=None, derandomize=True)
MANY = settings(max_examples=60, deadline=None, derandomize=True)
SOME = settings(max_examples=30, deadline=None, derandomize=True)
STEP = 100_000_000  # ns


def clip(count, seed=0, height=4, width=6):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return [Frame(1_700_000_000_000_000_001 + i * STEP, image) for i, image in enumerate(images)]


def tensor(frames):
    return torch.stack([torch.from_numpy(f.image).permute(2, 0, 1).float() / 255 for f in frames])


def run(frames, **settings):
    recon = Reconstructor(FakeModel(), **settings)
    updates = [update for frame in frames for update in recon.push(frame)]
    return recon, updates + recon.flush()


@st.composite
def streams(draw):
    size = draw(st.integers(1, 9))
    overlap = draw(st.integers(0, size - 1))
    return {
        "chunk_size": size,
        "overlap": overlap,
        "alignment": draw(st.sampled_from(ALIGNMENTS if overlap else ("none",))),
        "scale_mode": draw(st.sampled_from(SCALE_MODES)),
        "reset_every": draw(st.sampled_from((0, 0, 1, 2, 3) if overlap else (0,))),
    }


def test_chunks_that_share_no_frame_are_joined_by_memory_alone():
    for joined in ({"alignment": "se3"}, {"alignment": "robust"}, {"reset_every": 2}):
        with pytest.raises(ConfigError, match="joins chunks by the frames they share"):
            Reconstructor(FakeModel(), 4, 0, **joined)


def test_what_a_checkpoint_recommends_can_be_given_as_it_stands():
    recommended = {"chunk_size": 2, "overlap": 1, "resolution": "8x6"}
    recon = Reconstructor(FakeModel(), **recommended)
    updates = [update for frame in clip(3, 0) for update in recon.push(frame)]
    assert updates[0].images.shape[1:3] == (6, 8)
    with pytest.raises(ConfigError, match=r"stream\.resolution"):
        Reconstructor(FakeModel(), resolution="large")


@pytest.mark.parametrize("reset_every", [0, 1, 3])
@pytest.mark.parametrize("alignment", ["none", "se3", "sim3"])
@FEW
@given(
    count=st.integers(1, 40),
    stream=streams(),
    encode_batch=st.integers(1, 5),
    every=st.integers(0, 4),
    seed=st.integers(0, 9),
)
def test_a_stream_equals_the_whole_clip_at_once(
    alignment, reset_every, count, stream, encode_batch, every, seed
):
    if stream["overlap"]:
        stream = {**stream, "alignment": alignment, "reset_every": reset_every}
    frames = clip(count, seed)
    expected = batch(FakeModel(), tensor(frames), **stream)
    every = min(every, stream["chunk_size"] - 1)
    recon, updates = run(frames, **stream, encode_batch=encode_batch, provisional_every=every)
    result = recon.result()
    for got, want in (
        (result.camera_poses, expected.camera_poses),
        (result.local_points, expected.local_points),
        (result.confidence, expected.confidence),
    ):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert result.stamps == tuple(frame.stamp for frame in frames)
    final = [frame for update in updates for frame in update.frames if frame.final]
    assert [frame.stamp for frame in final] == [frame.stamp for frame in frames]  # once each, in order
    spans = windows(count, stream["chunk_size"], stream["overlap"])
    assert len(result.chunk_poses) == len(result.chunk_scales) == len(spans)


@SOME
@given(count=st.integers(2, 30), stream=streams(), data=st.data(), encode_batch=st.integers(1, 4))
def test_a_snapshot_continues_bit_for_bit(count, stream, data, encode_batch):
    frames = clip(count)
    cut = data.draw(st.integers(0, count))
    every = min(2, stream["chunk_size"] - 1)
    recon = Reconstructor(FakeModel(), **stream, encode_batch=encode_batch, provisional_every=every)
    for frame in frames[:cut]:
        recon.push(frame)
    snapshot = recon.snapshot()

    def rest():
        updates = [update for frame in frames[cut:] for update in recon.push(frame)] + recon.flush()
        return updates, recon.result()

    first_updates, first = rest()
    for _ in range(2):
        recon.restore(snapshot)
        updates, result = rest()
        assert torch.equal(result.camera_poses, first.camera_poses)
        assert torch.equal(result.local_points, first.local_points)
        assert torch.equal(result.confidence, first.confidence)
        for a, b in zip(result.frames, first.frames, strict=True):
            assert a.stamp == b.stamp
            assert np.array_equal(a.T_map_camera, b.T_map_camera)
            assert np.array_equal(a.covariance, b.covariance)
        assert [len(update.frames) for update in updates] == [len(update.frames) for update in first_updates]


def test_a_snapshot_knows_its_camera_and_its_losses(monkeypatch):
    frames = clip(12)
    height, width = frames[0].image.shape[:2]
    wide, narrow = (Camera(width, height, np.diag([focal, focal, 1.0])) for focal in (2.0, 3.0))
    recon = Reconstructor(FakeModel(), chunk_size=3, overlap=1, camera=wide)
    recon.push(frames[0])
    snapshot, camera = recon.snapshot(), recon.camera
    recon.use_camera(narrow)
    with monkeypatch.context() as patched:
        patched.setattr(recon._inference, "predict", Mock(side_effect=torch.cuda.OutOfMemoryError("full")))
        recon.push(frames[1])
        recon.push(frames[2])
    assert recon.lost == 3
    assert not np.array_equal(recon.camera.matrix, camera.matrix)
    recon.restore(snapshot)
    assert recon.lost == 0
    assert np.array_equal(recon.camera.matrix, camera.matrix)


class InHeights(FakeModel):
    carried = Carried(height=(0.2, 1.2))


def at(height, frame):
    rows, columns = frame.image.shape[:2]
    return Camera(columns, rows, np.diag([2.0, 2.0, 1.0]), T_base_camera=mount((0, 0, height), (0, 0, 0)))


def made(updates):
    """Final poses, and all points."""
    final = [frame.T_map_camera for update in updates for frame in update[: update.final_count].frames]
    return np.array(final), torch.cat([update.local_points for update in updates]).numpy()


def fed(recon, frames, end=True):
    updates = [update for frame in frames for update in recon.push(frame)]
    return updates + recon.flush() if end else updates


@pytest.mark.parametrize("alignment", ["none", "se3"])
@pytest.mark.parametrize("changed", [5, 1])  # frames until the camera is another one: within chunk 1 or 0
def test_a_segment_has_one_unit(alignment, changed):
    frames = clip(14)
    settings = {"chunk_size": 4, "overlap": 1, "alignment": alignment, "provisional_every": 1}
    recon = Reconstructor(InHeights(), **settings, camera=at(0.5, frames[0]))
    updates = fed(recon, frames[:changed], end=False)
    snapshot = recon.snapshot()
    recon.use_camera(at(0.25, frames[0]))
    updates += fed(recon, frames[changed:9])
    assert recon.events.counts["unit_assumed"] == (1 if changed == 5 else 2)
    after = fed(recon, frames[9:])
    assert recon.events.counts["unit_assumed"] == 2
    assert "0.25 m above the ground" in recon.events.recent[-1].message
    recon.restore(snapshot)
    again = fed(recon, frames[changed:9])

    def with_unit(unit):
        return Reconstructor(FakeModel(), **settings, unit=unit)

    expected = with_unit(0.5 if changed == 5 else 0.25)
    unchanged = with_unit(0.5)
    fed(unchanged, frames[:changed], end=False)
    for seen, true in (
        (made(updates)[0], made(fed(expected, frames[:9]))[0]),
        (made(after)[1], made(fed(with_unit(0.25), frames[9:]))[1]),
        (made(again)[0], made(fed(unchanged, frames[changed:9]))[0]),
    ):
        np.testing.assert_allclose(seen, true)


def test_a_unit_that_is_not_known_is_that_of_the_network():
    frames = clip(9)
    settings = {"chunk_size": 4, "overlap": 1}
    expected = made(run(frames, **settings)[1])
    somewhere = at(0.5, frames[0])
    for model, camera in ((InHeights(), None), (InHeights(), at(0, frames[0])), (FakeModel(), somewhere)):
        recon = Reconstructor(model, **settings, camera=camera)
        for seen, true in zip(made(fed(recon, frames)), expected, strict=True):
            np.testing.assert_array_equal(seen, true)
        assert not recon.events.counts
    given = Reconstructor(InHeights(), **settings, unit=2.0, camera=somewhere)
    np.testing.assert_allclose(made(fed(given, frames))[1], 2 * expected[1])
    assert not given.events.counts, "somebody said it"


@MANY
@given(
    steps=st.lists(st.integers(-3 * 10**9, 13 * 10**9) | st.sampled_from([0, STEP, STEP, STEP]), max_size=40),
    sizes=st.lists(st.sampled_from([(4, 6), (4, 6), (4, 6), (6, 4)]), min_size=41, max_size=41),
    acts=st.lists(st.sampled_from(["push", "push", "push", "push", "flush", "reset", "back"]), max_size=60),
    stream=streams(),
)
def test_no_order_of_input_crashes_it_or_loses_a_frame(steps, sizes, acts, stream):
    recon = Reconstructor(FakeModel(), **stream)
    snapshot = recon.snapshot()
    stamp, accepted, pushes = 0, 0, iter(zip([0, *steps], sizes, strict=False))
    for act in acts:
        if act == "push":
            step, (height, width) = next(pushes, (STEP, (4, 6)))
            stamp += step
            dropped = recon.events.counts["duplicate_stamp"] + recon.events.counts["out_of_order"]
            recon.push(Frame(stamp, np.full((height, width, 3), stamp % 251, np.uint8)))
            now = recon.events.counts["duplicate_stamp"] + recon.events.counts["out_of_order"]
            accepted += 1 - (now - dropped)
        elif act == "flush":
            recon.flush()
            assert recon.flush() == []  # nothing is left
        elif act == "reset":
            recon.reset()
            accepted = 0
        else:
            recon.restore(snapshot)
            accepted = 0
    recon.flush()
    result = recon.result()
    assert len(result.stamps) == accepted
    assert result.camera_poses.isfinite().all()


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        (9.9, ""),
        (10.1, "long_gap"),
        (-0.9, "out_of_order"),
        (-1.1, "clock_went_back"),
        (0.0, "duplicate_stamp"),
    ],
)
def test_what_continues_a_stream(step, verdict):
    first = clip(1)[0]
    judge = Continuity(max_gap=10)
    judge.accept(first.stamp, first.image.shape)
    said = judge.judge(first.stamp + round(step * 1e9), first.image.shape)
    assert said.event == verdict
    assert said.drop == (verdict in ("out_of_order", "duplicate_stamp"))
    assert said.restart == (verdict in ("long_gap", "clock_went_back"))


def test_each_frame_is_encoded_once_and_when_it_comes():
    """Not when its chunk is complete, nor again in previews and in the chunk that shares it."""
    model = FakeModel()
    encode = Mock(wraps=model.encode)
    model.encode = encode
    recon = Reconstructor(model, chunk_size=5, overlap=2, provisional_every=2)
    for count, frame in enumerate(clip(12), 1):
        recon.push(frame)
        assert sum(call.args[0].shape[1] for call in encode.call_args_list) == count
    recon.flush()
    assert encode.call_count == 12


def test_memory_that_nobody_will_read_is_not_made():
    """Before a reset of the fast weights, and at the end."""
    model = FakeModel()
    step = Mock(wraps=model.step)
    model.step = step
    recon = Reconstructor(model, chunk_size=4, overlap=1, reset_every=2)
    for frame in clip(14):  # chunks end after 4, 7, 10 and 13 frames
        recon.push(frame)
    recon.flush()
    asked = [
        (call.kwargs["update_memory"], call.kwargs["update_fast_weights"]) for call in step.call_args_list
    ]
    assert asked == [(True, True), (True, False), (True, True), (True, False), (False, True)]


def test_updates_say_which_poses_may_still_change():
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=1, alignment="sim3", provisional_every=2)
    seen = []
    for frame in clip(8):
        seen.append([(len(update.frames), update.final_count) for update in recon.push(frame)])
    # Previews at 2 and at 3 + 2 frames; chunks of four at 4 and at 7 frames, whose last frame is shared.
    assert seen == [[], [(2, 0)], [], [(4, 3)], [], [(3, 0)], [(4, 3)], []]
    assert [(len(update.frames), update.final_count) for update in recon.flush()] == [(2, 2)]


@pytest.mark.parametrize("alignment", ["none", "se3"])
def test_what_is_handed_out_cannot_be_changed_behind_the_streams_back(alignment):
    _, updates = run(clip(12), chunk_size=5, overlap=2, alignment=alignment)
    for update in updates:
        for array in (update.T_map_chunk, update.frames[0].T_map_camera, update.frames[0].covariance):
            with pytest.raises(ValueError, match="read-only"):
                array *= 2


def test_a_stream_that_ends_with_a_chunk_needs_no_tail():
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=2)
    frames = clip(6)
    updates = [update for frame in frames for update in recon.push(frame)]
    provisional = updates[-1][updates[-1].final_count :]
    assert [posed.stamp for posed in recon.result().frames if not posed.final] == [
        f.stamp for f in frames[4:]
    ]
    steps = recon._model.steps
    (settled,) = recon.flush()
    assert recon._model.steps == steps
    assert settled.final_count == 2
    assert torch.equal(settled.local_points, provisional.local_points)
    for before, after in zip(provisional.frames, settled.frames, strict=True):
        assert np.array_equal(before.T_map_camera, after.T_map_camera)


def test_an_empty_stream():
    recon = Reconstructor(FakeModel())
    assert recon.flush() == []
    result = recon.result()
    assert result.camera_poses.shape == (0, 4, 4)
    assert result.stamps == ()
    assert len(result.trajectory) == 0


def test_nothing_is_kept_that_was_not_asked_for():
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=1, keep_results=False)
    for frame in clip(30):
        recon.push(frame)
    assert recon._state.parts == recon._state.placements == ()
    assert len(recon._state.chunker.growing.items) < 4
    with pytest.raises(RuntimeError, match="keep_results"):
        recon.result()


def test_what_is_kept_is_not_what_was_handed_out():
    recon, updates = run(clip(12), chunk_size=5, overlap=2)
    before = recon.result()
    for update in updates:
        update.local_points.zero_()
        update.confidence.zero_()
    assert torch.equal(recon.result().local_points, before.local_points)
    assert torch.equal(recon.result().confidence, before.confidence)


def test_what_is_shared_with_the_next_chunk_does_not_hold_the_whole_chunk():
    recon, _ = Reconstructor(FakeModel(), chunk_size=8, overlap=1), None
    for frame in clip(8):
        recon.push(frame)
    shared = recon._state.shared
    assert shared.local_points.untyped_storage().nbytes() == shared.local_points.nbytes


@pytest.mark.parametrize(
    ("stamps", "event", "restarts", "kept"),
    [
        ([0, 1, 2, 2, 3], "duplicate_stamp", 0, 4),
        ([0, 1, 3, 2, 4], "out_of_order", 0, 4),
        ([0, 1, 2, 130, 131], "long_gap", 1, 5),
        ([50, 51, 52, 3, 4], "clock_went_back", 1, 5),
    ],
)
def test_stamps_that_do_not_follow_have_names(stamps, event, restarts, kept):
    recon = Reconstructor(FakeModel(), chunk_size=3, overlap=1)
    for stamp, frame in zip(stamps, clip(5), strict=True):
        recon.push(Frame(stamp * STEP, frame.image))
    recon.flush()
    assert recon.events.counts == {event: 1}
    assert recon.events.recent[0].name == event
    frames = recon.result().frames
    assert len(frames) == kept
    assert len({frame.segment for frame in frames}) == restarts + 1


def test_a_new_memory_forgets_and_goes_on_where_the_camera_was_last_seen():
    frames = clip(10)
    late = [Frame(frame.stamp + 60 * 10**9, frame.image) for frame in frames]
    recon, _ = run([*frames[:5], *late[5:]], chunk_size=4, overlap=1, alignment="sim3")
    alone, _ = run(frames[5:], chunk_size=4, overlap=1, alignment="sim3")
    poses = [frame.T_map_camera for frame in recon.result().frames]
    assert np.allclose(poses[5], poses[4])
    expected = [
        poses[4] @ inverse(alone.result().frames[0].T_map_camera) @ f.T_map_camera
        for f in alone.result().frames
    ]
    assert np.allclose(poses[5:], expected, atol=1e-6)


def test_the_size_of_the_network_is_chosen_anew_for_images_of_another_shape():
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=1, resolution="auto")
    sizes = []
    for number, (width, height) in enumerate([(64, 48)] * 3 + [(64, 36)] * 3):
        recon.push(Frame(number * STEP, np.zeros((height, width, 3), np.uint8)))
        sizes.append(recon._state.size)
    patch = FakeModel().patch_size
    assert sizes == [target_size(64, 48, patch)] * 3 + [target_size(64, 36, patch)] * 3


def test_a_size_change_begins_a_new_memory():
    recon, _ = run(
        [*clip(5), *[Frame(f.stamp + 10 * STEP, f.image) for f in clip(3, 0, 6, 4)]], chunk_size=4, overlap=1
    )
    assert recon.events.counts == {"size_changed": 1}
    result = recon.result()
    assert len(result.frames) == 8
    assert result.local_points is None  # of two sizes
    steady, _ = run(
        [*clip(5), *[Frame(f.stamp + 10 * STEP, f.image) for f in clip(3, 0, 6, 4)]],
        chunk_size=4,
        overlap=1,
        resolution=(6, 4),
    )
    assert steady.result().local_points.shape == (8, 4, 6, 3)


def test_a_frame_that_cannot_be_used_changes_nothing():
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=1)
    good = clip(6)
    for i, frame in enumerate(good):
        for wrong in (np.zeros((5, 7, 3), np.uint8), np.zeros((4, 6, 3)), np.zeros((4, 6), np.uint8)):
            with pytest.raises(ValueError, match=r"image|multiples"):
                recon.push(Frame(frame.stamp + (i + 1) * 60 * 10**9, wrong))
        recon.push(frame)
    recon.flush()
    assert not recon.events.counts
    expected, _ = run(good, chunk_size=4, overlap=1)
    assert torch.equal(recon.result().camera_poses, expected.result().camera_poses)


def test_reset_begins_another_map():
    frames = clip(9)
    recon = Reconstructor(FakeModel(), chunk_size=4, overlap=1, alignment="se3")
    for frame in frames:
        recon.push(frame)
    recon.reset()
    for frame in frames:
        recon.push(frame)
    recon.flush()
    expected, _ = run(frames, chunk_size=4, overlap=1, alignment="se3")
    assert torch.equal(recon.result().camera_poses, expected.result().camera_poses)
    assert {frame.segment for frame in recon.result().frames} == {1}


def test_it_is_made_from_a_configuration():
    config = StreamConfig(chunk_size=5, overlap=2, alignment="sim3", resolution="6x4", provisional_every=2)
    recon = Reconstructor.from_config(FakeModel(), config, keep_results=False)
    assert recon._config == StreamConfig(chunk_size=5, overlap=2, alignment="sim3", provisional_every=2)
    recon.push(clip(1, height=8, width=12)[0])
    assert recon._state.size == (6, 4)
    with pytest.raises(ValueError, match=r"stream\.overlap"):
        Reconstructor(FakeModel(), chunk_size=3, overlap=3)


def test_intrinsics_of_the_network_images():
    camera = Camera(12, 8, np.array([[10.0, 0, 6], [0, 10, 4], [0, 0, 1]]))
    recon = Reconstructor(FakeModel(), resolution=(6, 4), camera=camera)
    assert recon.camera is None
    recon.push(clip(1, height=8, width=12)[0])
    assert recon.camera.matrix[0, 0] == pytest.approx(5)
    assert (recon.camera.width, recon.camera.height) == (6, 4)
