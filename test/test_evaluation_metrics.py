"""Our numbers against evo's, against counting by hand, and against what a changed input must do to them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loger_ros.evaluation.association import associate
from loger_ros.evaluation.depth import DepthSample
from loger_ros.evaluation.measure import Matched, causal_error, measure, trajectory_metrics, without_nan
from loger_ros.evaluation.relative import _drawn, auc, pair_errors, rpe
from loger_ros.evaluation.run import run_of
from loger_ros.evaluation.seen_depth import SeenDepth
from loger_ros.evaluation.segments import segment_errors
from loger_ros.evaluation.trajectory import Statistics, alignment, placing, position_errors
from loger_ros.geometry import exp_rotation, transform
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.trajectory_files import read_tum, write_tum
from loger_ros.stream.prepare import Preparation
from loger_ros.types import Camera, Trajectory


def walk(count: int, seed: int, step: float = 0.3) -> np.ndarray:
    """A wandering camera."""
    rng = np.random.default_rng(seed)
    poses = [np.eye(4)]
    for _ in range(count - 1):
        turn = exp_rotation(rng.normal(0, 0.08, 3))
        poses.append(poses[-1] @ transform(turn, np.array([0.05, 0.0, 1.0]) * step))
    return np.array(poses)


def shaken(poses: np.ndarray, seed: int, scale: float = 0.7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = transform(exp_rotation(rng.normal(0, 0.02, (len(poses), 3))), rng.normal(0, 0.1, (len(poses), 3)))
    moved = transform(exp_rotation(np.array([0.4, -1.0, 2.0])), np.array([5.0, -3.0, 1.0])) @ poses @ noise
    moved[:, :3, 3] *= scale
    return moved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trajectories as TUM files, which is how evo gets them."""
    truth = walk(150, 1)
    stamps = tuple(range(10**9, 10**9 + 150 * 10**8, 10**8))
    folder = tmp_path_factory.mktemp("tum")
    write_tum(folder / "truth.txt", Trajectory(stamps, truth, (0,) * 150))
    write_tum(folder / "made.txt", Trajectory(stamps, shaken(truth, 2), (0,) * 150))
    return folder


@pytest.fixture(scope="module")
def matched(folder: Path) -> Matched:
    return Matched.of(read_tum(folder / "made.txt"), read_tum(folder / "truth.txt"))


def evo_pair(folder: Path):
    file_interface = pytest.importorskip("evo.tools.file_interface")
    sync = pytest.importorskip("evo.core.sync")
    truth = file_interface.read_tum_trajectory_file(str(folder / "truth.txt"))
    made = file_interface.read_tum_trajectory_file(str(folder / "made.txt"))
    return sync.associate_trajectories(truth, made, max_diff=0.01)


@pytest.mark.parametrize("mode", ["none", "se3", "sim3"])
def test_the_absolute_error_is_evos(folder: Path, matched: Matched, mode: str) -> None:
    truth, made = evo_pair(folder)
    from evo.core import metrics

    made = copy.deepcopy(made)
    if mode == "none":
        made.align_origin(truth)
    else:
        made.align(truth, correct_scale=mode == "sim3")
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((truth, made))
    ours = trajectory_metrics(matched)["ate"][mode]
    assert ours["rmse"] > 0.01
    for name in ("rmse", "mean", "median", "max"):
        assert ours[name] == pytest.approx(ape.get_statistic(metrics.StatisticsType[name]), abs=1e-9)
    errors = position_errors(
        alignment(matched.poses, matched.truth, mode).poses(matched.poses), matched.truth
    )
    np.testing.assert_allclose(errors, ape.error, atol=1e-9)


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize("part", ["translation", "rotation"])
def test_the_relative_error_is_evos(folder: Path, matched: Matched, part: str, step: int) -> None:
    truth, made = evo_pair(folder)
    from evo.core import metrics

    relation = {
        "translation": metrics.PoseRelation.translation_part,
        "rotation": metrics.PoseRelation.rotation_angle_deg,
    }[part]
    theirs = metrics.RPE(relation, delta=step, delta_unit=metrics.Unit.frames, all_pairs=True)
    theirs.process_data((truth, made))
    ours = rpe(matched.poses, matched.truth, matched.stretches, step)[part]
    for name in ("rmse", "mean", "median", "max"):
        assert ours[name] == pytest.approx(theirs.get_statistic(metrics.StatisticsType[name]), abs=1e-9)


def test_segment_errors_of_known_motion() -> None:
    """Straight on, 2 % too far and 0.1° of turning per metre: KITTI's numbers are just these."""
    truth, whole = np.tile(np.eye(4), (2001, 1, 1)), np.zeros(2001)
    truth[:, 2, 3] = np.arange(2001) * 0.5
    longer = truth.copy()
    longer[:, 2, 3] *= 1.02
    errors = segment_errors(longer, truth, whole)
    assert errors["unit"] == 100
    assert [row["length"] for row in errors["by_length"]] == [100.0 * i for i in range(1, 9)]
    assert errors["translation_percent"] == pytest.approx(2.0, rel=0.01)
    assert errors["rotation_deg_per_m"] == pytest.approx(0.0, abs=1e-9)
    # A piece ends at the first frame that lies farther than its length: 100.5 m for 100 m.
    first = errors["by_length"][0]
    assert first["translation_percent"] == pytest.approx(2 * 100.5 / 100)
    assert first["pieces"] == 180  # begins 0, 10, ... 1790
    turning = np.deg2rad(0.1) * truth[:, 2, 3]
    turned = truth @ transform(exp_rotation(np.outer(turning, [0, 1.0, 0])), np.zeros((2001, 3)))
    assert segment_errors(turned, truth, whole)["rotation_deg_per_m"] == pytest.approx(0.1, rel=0.01)


def test_short_ways_have_short_pieces() -> None:
    truth = walk(60, 3, step=0.1)
    errors = segment_errors(shaken(truth, 4), truth, np.zeros(60))
    assert errors["unit"] == 1.0
    assert errors["by_length"]
    still = np.tile(np.eye(4), (30, 1, 1))
    assert math.isnan(segment_errors(still, still, np.zeros(30))["translation_percent"])


def test_what_leads_over_a_hole_is_no_step_and_no_piece() -> None:
    """Truth at both ends only; then poses that begin anew in the middle, somewhere else."""
    truth = walk(300, 9)
    made = shaken(truth, 10, scale=1.0)
    stamps = tuple(range(10**9, 10**9 + 300 * 10**8, 10**8))
    known = [*range(100), *range(200, 300)]
    ends = Trajectory(tuple(stamps[i] for i in known), truth[known], (0,) * 200)
    holed = trajectory_metrics(Matched.of(Trajectory(stamps, made, (0,) * 300), ends))
    parts = [rpe(made[part], truth[part], np.zeros(100)) for part in (slice(100), slice(200, 300))]
    means = [part["translation"]["mean"] for part in parts]
    assert holed["rpe"]["translation"]["mean"] == pytest.approx(np.mean(means))
    assert holed["rpe"]["left_out"] == 1
    pieces = holed["segments"]
    assert pieces["left_out"] > 0
    whole = trajectory_metrics(
        Matched.of(Trajectory(stamps, made, (0,) * 300), Trajectory(stamps, truth, (0,) * 300))
    )
    assert whole["rpe"]["left_out"] == whole["segments"]["left_out"] == 0
    assert pieces["translation_percent"] < 1.5 * whole["segments"]["translation_percent"]
    anew = made.copy()
    anew[150:, :3, 3] += 100
    segments = (0,) * 150 + (1,) * 150
    broken = trajectory_metrics(
        Matched.of(Trajectory(stamps, anew, segments), Trajectory(stamps, truth, segments))
    )
    assert broken["rpe"]["left_out"] == 1
    assert broken["rpe"]["translation"]["max"] < 1
    assert broken["segments"]["translation_percent"] < 1.5 * whole["segments"]["translation_percent"]


def test_auc_counts_the_worse_of_both_errors() -> None:
    rotation, direction = np.array([0.5, 10.2, 40.0, 0.0]), np.array([0.2, 3.0, 0.0, 29.5])
    # Worse errors: 0.5 (below 1..30), 10.2 (below 11..30), 40 (never), 29.5 (below 30).
    assert auc(rotation, direction, 30) == pytest.approx(100 * (30 + 20 + 0 + 1) / 30 / 4)
    assert auc(rotation, direction, 15) == pytest.approx(100 * (15 + 5) / 15 / 4)
    truth = walk(40, 5)
    rotation, direction = pair_errors(truth, truth)
    assert len(rotation) == 40 * 39 // 2
    assert auc(rotation, direction, 15) == 100
    still = np.tile(np.eye(4), (40, 1, 1))
    assert auc(*pair_errors(still, truth), 30) == 0
    many = walk(700, 6)
    assert len(pair_errors(many, many)[0]) == 50_000


def test_pairs_are_drawn_as_if_they_were_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a way that drifts, far pairs are worse than near ones."""
    first, second = _drawn(1000, 0)
    assert (first < second).all()
    assert (second - first).mean() == pytest.approx(1001 / 3, rel=0.01)
    truth = walk(1000, 8)
    drift = np.deg2rad(0.02) * np.arange(1000)
    made = truth @ transform(exp_rotation(np.outer(drift, [0, 1.0, 0])), np.zeros((1000, 3)))
    drawn = auc(*pair_errors(made, truth), 15)
    monkeypatch.setattr("loger_ros.evaluation.relative.MOST_PAIRS", 1000 * 999 // 2)
    assert drawn == pytest.approx(auc(*pair_errors(made, truth), 15), abs=1)


def test_poses_are_matched_by_stamp_within_the_tolerance() -> None:
    images = [100, 200, 300, 400]
    truths = [405, 95, 290, 310, 1000]  # in no order
    mine, theirs = associate(images, truths, tolerance=10)
    assert [(images[i], truths[j]) for i, j in zip(mine, theirs, strict=True)] == [
        (100, 95),
        (300, 290),
        (400, 405),
    ]
    assert len(associate(images, truths, tolerance=4)[0]) == 0
    assert len(associate([], truths)[0]) == len(associate(images, [])[0]) == 0
    mine, theirs = associate([0, 4, 8], [5], tolerance=10)
    assert (list(mine), list(theirs)) == ([1], [0]), "a true pose serves once"


def test_the_causal_error_is_metric_and_starts_at_the_first_pose() -> None:
    truth = walk(50, 7)
    moved = transform(exp_rotation(np.array([1.0, 0.2, 0.1])), np.array([9.0, 9.0, 9.0])) @ truth
    stamps = np.arange(50)
    assert causal_error(Matched(stamps, moved, truth, np.zeros(50)), np.zeros(50))["max"] < 1e-9
    half = moved.copy()
    half[:, :3, 3] = moved[0, :3, 3] + (moved[:, :3, 3] - moved[0, :3, 3]) / 2
    end = causal_error(Matched(stamps, half, truth, np.zeros(50)), np.ones(50))["end"]
    assert end == pytest.approx(np.linalg.norm(truth[-1, :3, 3]) / 2)


def test_depth_errors_know_their_scale() -> None:
    true = np.random.default_rng(0).uniform(1, 5, (15, 20)).astype(np.float32)
    made = true / 2
    true[0, 0], true[1, 0] = np.nan, 0
    sample = DepthSample()
    sample.add(made, true)
    assert sample.errors()["abs_rel"] == pytest.approx(0.5)
    assert sample.errors()["delta1_percent"] == 0
    for scale in (2.0, None):
        assert sample.errors(scale)["abs_rel"] == pytest.approx(0, abs=1e-6)
        assert sample.errors(scale)["delta1_percent"] == 100
    assert DepthSample().errors() == {}
    other = DepthSample()
    other.add(np.array([[1.0, 2.0, 6.0]]), np.array([[2.0, 5.0, 9.0]]))
    assert other.errors(None)["scale"] == 5 / 2, "the ratio of the medians"


def test_depth_is_seen_by_the_network_at_its_own_size() -> None:
    true = np.kron(np.arange(1.0, 13.0).reshape(3, 4), np.ones((3, 3)))
    true[0:3, 0:3] = np.inf
    seen = SeenDepth(None, None).at(true, (3, 4))
    np.testing.assert_array_equal(seen, [[np.nan, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    camera = Camera(12, 9, np.array([[10.0, 0, 5.5], [0, 10, 4], [0, 0, 1]]))
    rays = SeenDepth(camera, None).rays((3, 4))
    np.testing.assert_allclose(rays[1, 0], [(1 - 5.5) / 10, 0], atol=1e-12)
    assert SeenDepth(None, None).rays((3, 4)) is None


@pytest.mark.parametrize(
    ("model", "lens"),
    [("plumb_bob", (-0.2, 0.05, 0.001, -0.002, 0.0)), ("equidistant", (0.05, -0.01, 0.0, 0.0))],
)
def test_depth_is_seen_through_the_lens(model: str, lens: tuple[float, ...]) -> None:
    """Depth that says where each pixel is, against a picture that says it and is prepared for the network."""
    source = Camera(80, 60, np.array([[60.0, 0, 40], [0, 61, 29], [0, 0, 1]]), lens, model)
    y, x = np.meshgrid(np.arange(60), np.arange(80), indexing="ij")
    for angle in (0.0, 60.0):
        preparation = Preparation((40, 30), patch=2, camera=source, field_of_view=angle)
        network = preparation.camera_at((40, 30))
        for places in (x, y):
            picture = np.repeat((100 + places[..., None]).astype(np.uint8), 3, 2)
            expected = preparation(picture, (40, 30)).numpy()[..., 0]
            seen = SeenDepth(source, network).at((100 + places).astype(float), (30, 40))
            inside = slice(4, -4), slice(4, -4)
            np.testing.assert_allclose(seen[inside], expected[inside], atol=1.5)


@pytest.mark.parametrize("mode", ["se3", "sim3"])
def test_on_a_straight_way_the_cameras_tell_how_it_lies(mode: str) -> None:
    """Positions leave the turn about the way to their noise; where there is a bend, they tell it alone."""
    rng = np.random.default_rng(0)
    truth = np.tile(np.eye(4), (100, 1, 1))
    truth[:, 2, 3] = np.linspace(0, 10, 100)
    T_map_world = transform(exp_rotation(np.array([0.4, -1.0, 2.0])), np.array([5.0, -3.0, 1.0]))
    made = T_map_world @ truth
    made[:, :3, 3] += rng.normal(0, 0.01, (100, 3))
    points = rng.uniform(-1.5, 1.5, (50, 3)) + np.array([0.0, 0, 5])
    seen = points @ T_map_world[:3, :3].T + T_map_world[:3, 3]
    np.testing.assert_allclose(placing(made, truth, mode).points(seen), points, atol=0.02)
    bent = truth.copy()
    bent[:, 0, 3] = np.linspace(-1, 1, 100) ** 2
    aligned, placed = alignment(made, bent, mode), placing(made, bent, mode)
    np.testing.assert_array_equal(placed.rotation, aligned.rotation)


def test_numbers_that_are_none_become_null() -> None:
    assert without_nan({"a": [float("nan"), np.float64(2)], "b": np.int64(3)}) == {"a": [None, 2.0], "b": 3}
    assert math.isnan(Statistics.of(np.zeros(0)).rmse)


def test_a_run_of_half_the_size_is_perfect_once_its_scale_is_known():
    """Poses, depth and cloud are the truth by half, seen from somewhere else."""
    truth = walk(120, 3)
    rng = np.random.default_rng(3)
    away = transform(exp_rotation(np.array([0.3, -0.8, 1.7])), np.array([4.0, 1.0, -2.0]))
    points = rng.uniform(-5, 5, (500, 3))
    made = away @ truth
    made[:, :3, 3] *= 0.5
    moved = 0.5 * (points @ away[:3, :3].T + away[:3, 3])
    stamps = tuple(range(10**9, 10**9 + 120 * 10**8, 10**8))
    trajectory = Trajectory(stamps, made, (0,) * 120)
    depth = DepthSample()
    true_depth = rng.uniform(1, 9, (40, 60))
    depth.add(0.5 * true_depth, true_depth)
    cloud = Cloud(torch.from_numpy(moved).float(), torch.zeros(500, 3, dtype=torch.uint8), torch.ones(500))
    run = replace(
        run_of(trajectory, stamps),
        first_reported=trajectory,
        delays=np.array([0.1, 0.3]),
        cloud=cloud,
        true_cloud=points,
        voxel_size=0.05,
        depth=depth,
    )
    metrics = measure(run, Trajectory(stamps, truth, (0,) * 120))
    assert metrics["ate"]["sim3"]["scale"] == pytest.approx(2)
    assert metrics["ate"]["sim3"]["rmse"] < 1e-6 < metrics["ate"]["se3"]["rmse"]
    assert metrics["rpe_scaled"]["translation"]["max"] < 1e-6 < metrics["rpe"]["translation"]["mean"]
    assert metrics["segments_scaled"]["translation_percent"] < 1e-4
    assert metrics["segments"]["translation_percent"] == pytest.approx(50, rel=0.2)
    assert metrics["depth"]["metric"]["abs_rel"] == pytest.approx(0.5)
    assert metrics["depth"]["trajectory_scale"]["abs_rel"] < 1e-6
    assert metrics["cloud"]["sim3"]["accuracy"] < 1e-4
    assert metrics["cloud"]["none"]["accuracy"] > 0.1
    assert metrics["causal"]["age_s"] == {"mean": pytest.approx(0.2), "max": 0.3}
    lost = 0.5 * np.linalg.norm(truth[-1, :3, 3] - truth[0, :3, 3])
    assert metrics["causal"]["end"] == pytest.approx(lost)
    assert metrics["causal"]["end_percent"] == pytest.approx(100 * lost / metrics["path_m"])
