from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_model import FakeModel
from posed_updates import random_pose
from simulated_chunks import Faults, joined, simulate

from loger_ros.geometry import exp_rotation, inverse, log_rotation, nearest_rotation, transform
from loger_ros.stream import Reconstructor
from loger_ros.stream.align import Aligner
from loger_ros.stream.covariance import Uncertainty
from loger_ros.types import Frame

RIGID = Faults(scale=0, drift=(0, 0), frame_scale=0, pixel=0.01, outliers=0)


def errors_and_covariances(alignment, faults, seeds, **settings):
    """Late frames only: the first chunks rely on the prior."""
    for seed in seeds:
        truth, chunks = simulate(seed, faults, **settings)
        chunks[0] = (on_average(chunks[0][0], truth), *chunks[0][1:])  # it decides the frame of the map
        poses, covariances = joined(chunks, Aligner(alignment), settings["overlap"])
        for i in range(len(poses) // 2, len(poses), 3):
            position = poses[i, :3, 3] - truth[i, :3, 3]
            turn = log_rotation(poses[i, :3, :3] @ truth[i, :3, :3].T)
            yield np.concatenate([position, turn]), covariances[i]


def on_average(poses, truth):
    """The poses, moved as one to where the truth is."""
    rotation = nearest_rotation((truth[: len(poses)] @ inverse(poses))[:, :3, :3].mean(0))
    shift = (truth[: len(poses), :3, 3] - poses[:, :3, 3] @ rotation.T).mean(0)
    return transform(rotation, shift) @ poses


@pytest.mark.parametrize("alignment", ["se3", "robust"])
@pytest.mark.parametrize("pose", [(0.02, 0.004), (0.1, 0.01)])
def test_errors_are_as_large_as_the_covariance_says(alignment, pose):
    """For six numbers that follow their covariance, the mean of e' C^-1 e is 6."""
    faults = replace(RIGID, pose=pose)
    squares = [
        error @ np.linalg.solve(covariance, error)
        for error, covariance in errors_and_covariances(alignment, faults, range(12), chunks=24, overlap=4)
    ]
    assert 2.5 < np.mean(squares) < 11


@pytest.mark.parametrize("alignment", ["sim3", "robust"])
def test_what_a_join_finds_of_scale_is_as_exact_as_the_covariance_says(alignment):
    faults = replace(RIGID, frame_scale=0.01, pixel=0.05)
    squares = [
        error @ np.linalg.solve(covariance, error)
        for error, covariance in errors_and_covariances(alignment, faults, range(5), chunks=24, overlap=4)
    ]
    assert 2.5 < np.mean(squares) < 11


def turned(pose):
    """(6, 6) that rotates both halves."""
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = pose[:3, :3]
    return result


@pytest.mark.parametrize("alignment", ["none", "se3", "sim3", "robust"])
def test_a_map_that_is_turned_turns_the_covariances_and_nothing_else(alignment):
    rng = np.random.default_rng(0)
    G = random_pose(rng)
    poses = np.array([random_pose(rng, 0.3) for _ in range(10)])
    before = np.array([pose @ random_pose(rng, 0.05) for pose in poses[4:6]])
    told = []
    for place in (np.eye(4), G):
        _, begun = Uncertainty(alignment).after_chunk(place @ poses[:6], np.full(6, 0.8), np.zeros((0, 4, 4)))
        scales = (1.0, 1.1)
        _, joined_once = begun.after_chunk(place @ poses[4:], np.full(6, 0.8), place @ before, scales)
        told.append(joined_once.after_chunk(place @ poses[4:], np.full(6, 0.7), place @ before, scales)[0])
    assert np.allclose(turned(G) @ told[0] @ turned(G).T, told[1], rtol=1e-9, atol=1e-15)
    assert not np.allclose(told[0], told[1], rtol=1e-2)


def test_an_error_at_the_join_is_carried_by_the_geometry():
    """Small errors of the camera at the join, placed by hand, against the formula."""
    rng = np.random.default_rng(1)
    join, camera = random_pose(rng), random_pose(rng, 2.0)
    at_join = np.zeros((7, 7))
    at_join[:6, :6] = np.diag(rng.uniform(0.5, 2, 6))
    confidence, nothing = np.full(1, 0.8), np.zeros((0, 4, 4))

    def covariance(known):
        of = Uncertainty("none", T_map_join=join, at_join=known)
        return of.after_chunk(camera[None], confidence, nothing)[0][0]

    step, columns = 1e-6, []
    for axis in range(6):
        error = np.zeros(6)
        error[axis] = step
        nudged = join @ transform(exp_rotation(error[3:]), error[:3]) @ inverse(join) @ camera
        turn = log_rotation(nudged[:3, :3] @ camera[:3, :3].T)
        columns.append(np.concatenate([nudged[:3, 3] - camera[:3, 3], turn]) / step)
    jacobian = np.array(columns).T
    carried = covariance(at_join) - covariance(np.zeros((7, 7)))
    assert np.allclose(carried, jacobian @ at_join[:6, :6] @ jacobian.T, rtol=1e-4, atol=1e-4)


def test_chunks_that_share_nothing_add_up_all_the_same():
    """The memory joins them, no better than a frame would."""
    uncertainty, ends = Uncertainty("none"), []
    for chunk in range(6):
        covariances, uncertainty = uncertainty.after_chunk(
            line(8, 8 * chunk), np.full(8, 0.8), np.zeros((0, 4, 4))
        )
        ends.append(np.trace(covariances[-1][:3, :3]))
    assert ends == sorted(ends)
    assert ends[-1] > 5 * ends[0]
    _, begun = uncertainty.new_segment().after_chunk(line(8), np.full(8, 0.8), np.zeros((0, 4, 4)))
    assert begun.T_map_join is None, "a segment's first chunk is joined to nothing"


def test_a_join_at_one_frame_is_no_evidence_of_its_own():
    """As after a reset of the fast weights, when "none" joins chunks, too."""
    nothing = np.zeros((0, 4, 4))
    _, begun = Uncertainty("none").after_chunk(line(4), np.full(4, 0.8), nothing)
    _, after = begun.after_chunk(line(4, 3), np.full(4, 0.8), line(1, 3), by_one=True)
    assert after.moment is None
    for alignment in ("se3", "robust"):  # which join by their own rule, whatever the memory
        rng = np.random.default_rng(0)
        shared = np.array([random_pose(rng, 0.1) for _ in range(3)])
        chunk = np.array([*(pose @ random_pose(rng, 0.01) for pose in shared), *line(3)])
        told = [
            Uncertainty(alignment).after_chunk(chunk, np.full(6, 0.8), shared, by_one=by_one)[1].moment
            for by_one in (False, True)
        ]
        assert np.array_equal(*told)
    _, compared = begun.after_chunk(line(4, 3), np.full(4, 0.8), line(1, 3))
    assert compared.moment is not None


def test_a_short_chunk_is_no_surer_than_the_whole_one_before():
    nothing = np.zeros((0, 4, 4))
    _, begun = Uncertainty("se3").after_chunk(line(8), np.full(8, 0.8), nothing)
    _, short = begun.walked(line(8)).after_chunk(line(1, 7), np.full(1, 0.8), line(1, 7))
    assert np.allclose(short.noise(line(1, 7)), begun.noise(line(8)))
    assert short.walked(line(3)).noise(line(1))[0, 0] < short.noise(line(1))[0, 0]


@pytest.mark.parametrize(("alignment", "unsure"), [("se3", False), ("sim3", True), ("robust", True)])
def test_a_new_memory_has_a_scale_of_its_own(alignment, unsure):
    begun = Uncertainty(alignment).after_unseen(np.eye(4), np.eye(6) * 1e-4, 0.0)
    far = begun.after_chunk(line(9), np.full(9, 0.8), np.zeros((0, 4, 4)))[0][8]
    assert (far[2, 2] > 1) == unsure


def test_a_segment_begins_as_surely_as_the_one_before_ended():
    rng = np.random.default_rng(2)
    pose, half = random_pose(rng), rng.normal(size=(6, 6))
    known = half @ half.T
    begun = Uncertainty("none").after_unseen(pose, known, 0.0)
    alone = Uncertainty("none").after_chunk(pose[None], np.full(1, 0.8), np.zeros((0, 4, 4)))[0][0]
    after = begun.after_chunk(pose[None], np.full(1, 0.8), np.zeros((0, 4, 4)))[0][0]
    assert np.allclose(after - alone, known)


def test_an_unsure_scale_makes_a_way_unsure_along_itself():
    sure = np.full(6, 0.8)
    _, begun = Uncertainty("sim3").after_chunk(line(6), sure, np.zeros((0, 4, 4)))
    agreed, _ = begun.after_chunk(line(6, 4), sure, line(2, 4), (2.0, 2.0))
    apart, _ = begun.after_chunk(line(6, 4), sure, line(2, 4), (1.8, 2.2))
    assert apart[0] == pytest.approx(agreed[0])  # at the join
    grown = np.diag(apart[5] - agreed[5])
    assert grown[2] > 0.05
    assert np.abs(grown[[0, 1, 3, 4, 5]]).max() < 1e-12


@pytest.mark.parametrize("alignment", ["sim3", "robust"])
def test_a_scale_that_nothing_tells_is_anything_but_certain(alignment):
    sure = np.full(6, 0.8)
    _, begun = Uncertainty(alignment).after_chunk(line(6), sure, np.zeros((0, 4, 4)))
    told, _ = begun.after_chunk(line(6, 4), sure, line(2, 4), (2.0, 2.0))
    untold, _ = begun.after_chunk(line(6, 4), sure, line(2, 4))
    assert untold[5][2, 2] > 100 * told[5][2, 2]


def line(count, start=0.0):
    poses = np.repeat(np.eye(4)[None], count, 0)
    poses[:, 2, 3] = start + np.arange(count)
    return poses


def test_it_grows_along_the_way_and_with_doubt():
    sure = np.full(6, 0.8)
    uncertainty, sizes = Uncertainty("se3"), []
    for chunk in range(5):
        shared = line(2, 4 * chunk) if chunk else np.zeros((0, 4, 4))
        covariances, after = uncertainty.after_chunk(line(6, 4 * chunk), sure, shared)
        doubtful, _ = uncertainty.after_chunk(line(6, 4 * chunk), np.array([0.8] * 5 + [0.2]), shared)
        assert np.trace(doubtful[5]) > np.trace(covariances[5])
        sizes.append(np.trace(covariances[0][:3, :3]))
        uncertainty = after
    assert sizes == sorted(sizes)
    # An error of direction at a join moves what comes later sideways, not along the path.
    assert covariances[5][0, 0] > 1.5 * covariances[5][2, 2]


@pytest.mark.parametrize("alignment", ["none", "se3", "sim3", "robust"])
def test_disagreement_raises_it_and_every_covariance_is_positive(alignment):
    rng = np.random.default_rng(0)
    traces = []
    for noise in (0.0, 0.5):
        uncertainty = Uncertainty(alignment)
        shared = np.zeros((0, 4, 4))
        for chunk in range(8):
            poses = line(6, 3 * chunk)
            poses[:, :3, 3] += rng.normal(size=(6, 3)) * noise
            scales = (1.0,) * len(shared)
            covariances, uncertainty = uncertainty.after_chunk(poses, rng.random(6), shared, scales)
            shared = poses[3:]
            for covariance in covariances:
                assert np.allclose(covariance, covariance.T)
                assert np.linalg.eigvalsh(covariance).min() > 0
        traces.append(np.trace(covariances[-1]))
    assert traces[1] > 1.5 * traces[0]


@pytest.mark.parametrize("alignment", ["none", "se3", "robust"])
@pytest.mark.parametrize("overlap", [0, 1])
def test_without_a_second_opinion_the_prior_speaks(alignment, overlap):
    covariances, uncertainty = Uncertainty(alignment).after_chunk(line(4), np.zeros(4), np.zeros((0, 4, 4)))
    covariances, _ = uncertainty.after_chunk(line(4, 4 - overlap), np.zeros(4), line(4)[4 - overlap :])
    assert np.isfinite(covariances).all()
    assert np.linalg.eigvalsh(covariances[0]).min() > 0


def test_what_nobody_saw_is_not_known_better_than_what_was_seen():
    """A gap, a clock that went back: the next segment continues from where the camera was, less certain."""
    second = 10**9
    recon = Reconstructor(FakeModel(), chunk_size=3, overlap=1, max_gap=5)
    frames = [Frame(i * second // 10, np.full((4, 6, 3), i, np.uint8)) for i in range(30)]
    updates = [update for frame in frames for update in recon.push(frame)]
    updates += recon.push(Frame(33 * second, frames[0].image))  # 30.1 s later
    before = updates[-1].frames[-1]
    assert before.final
    after = [Frame((330 + i) * second // 10, frame.image) for i, frame in enumerate(frames[1:3], start=1)]
    first = [update for frame in after for update in recon.push(frame)][-1].frames[0]
    assert np.allclose(first.T_map_camera, before.T_map_camera)
    grown = first.covariance - before.covariance
    assert np.linalg.eigvalsh(grown).min() > -1e-12
    assert np.sqrt(np.diag(grown)[:3]) == pytest.approx(30.1, rel=0.01)
    assert np.sqrt(np.diag(grown)[3:]) == pytest.approx(np.pi, rel=0.01)
    recon.push(Frame(0, frames[0].image))
    again = [update for frame in frames[1:3] for update in recon.push(frame)][-1].frames[0]
    assert np.sqrt(np.trace(again.covariance[:3, :3])) > 60
