"""The classical odometry is exact where it can be, and a strong opponent where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.evaluation.classical import essential_odometry, floor_odometry
from loger_ros.evaluation.classical.floor import Floor, levelled
from loger_ros.evaluation.classical.segment import Segment
from loger_ros.evaluation.classical.starts import by_essential, on_plane, turn_alone
from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.geometry import exp_rotation
from loger_ros.world import SequenceSpec, generate

FLOOR = Floor.below(0.5, 0.2, tilt=0.005, lift=0.004, likely=0.5, flat=0.02)


def scene(rng: np.random.Generator, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Rays (N, 3) and inverse depths (N,); the first half lies on the floor."""
    rays = np.concatenate([rng.uniform(-0.7, 0.7, (count, 2)), np.ones((count, 1))], 1)
    rays[: count // 2, 1] = rng.uniform(0.0, 0.5, count // 2)
    inverse_depth = np.maximum(rng.uniform(0.2, 1.0, count), rays @ FLOOR.plane)  # nothing is below it
    inverse_depth[: count // 2] = (rays @ FLOOR.plane)[: count // 2]
    return rays, inverse_depth


def seen(rays: np.ndarray, inverse_depth: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    points = rays @ R.T + inverse_depth[:, None] * t
    return points[:, :2] / points[:, 2:]


def segment(rays: np.ndarray, expected: np.ndarray, floor: Floor | None) -> Segment:
    none = len(rays)
    return Segment(
        rays, expected.copy(), expected, np.full(none, 0.01), 60.0, 0.1, floor, 0.5,
        np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, none, 2)), np.zeros((0, none), bool),
    )  # fmt: skip


def test_poses_and_depths_come_out_exact_and_in_metres():
    rng = np.random.default_rng(0)
    rays, inverse_depth = scene(rng)
    start = inverse_depth * rng.uniform(0.7, 1.4, len(rays))
    start[:30] = inverse_depth[:30]  # the floor is where one begins
    found = segment(rays, start, FLOOR)
    down = FLOOR.down  # the robot turns about it and stays on the ground
    for f in range(1, 5):
        R = exp_rotation(0.03 * f * down)
        shift = np.array([0.02, 0, 0.06]) * f
        t = -R @ (shift - down * (down @ shift))
        wrong = exp_rotation(np.array([0.0, 0.01, 0.0])) @ R
        found.add(wrong, 0.9 * t, seen(rays, inverse_depth, R, t), np.ones(len(rays), bool))
    found.valid[:, -1] = False
    for _ in range(5):  # who is on the floor is told anew each time
        found.solve(40)
    np.testing.assert_allclose(found.R[-1], R, atol=1e-3)
    np.testing.assert_allclose(found.t[-1], t, atol=4e-3)
    np.testing.assert_allclose(found.inverse_depth[:30], inverse_depth[:30], rtol=0.01)
    np.testing.assert_allclose(found.inverse_depth[30:-1], inverse_depth[30:-1], atol=0.05)


def test_outliers_do_not_bend_the_motion():
    rng = np.random.default_rng(1)
    rays, inverse_depth = scene(rng)
    R, t = exp_rotation(np.array([0.0, 0.05, 0.0])), np.array([0.01, 0.0, -0.1])
    observed = seen(rays, inverse_depth, R, t)
    observed[::6] += rng.uniform(-0.2, 0.2, (10, 2))
    found = segment(rays, inverse_depth, None)
    found.certainty[:] = 1e6
    found.add(np.eye(3), np.zeros(3), observed, np.ones(len(rays), bool))
    found.solve(40)
    np.testing.assert_allclose(found.R[0], R, atol=1e-3)
    np.testing.assert_allclose(found.t[0], t, atol=3e-3)


def test_only_what_moves_like_the_floor_is_held_to_it():
    on_plane_depth = np.array([0.5, 0.5, 0.5, 0.5, 0.0])
    found = np.array([0.5, 0.8, 0.8, 0.35, 0.5])  # floor; above it; unclear; below it; above the horizon
    certainty = np.array([1e4, 1e4, 1.0, 1e4, 1e4])
    hold = FLOOR.hold(on_plane_depth, found, certainty)
    assert hold[0] > 1e3
    assert max(hold[1], hold[3]) < 1
    assert 0 < hold[2] < 10
    assert hold[4] == 0


def test_the_floor_is_the_lowest_thing():
    """When walls were taken for the floor, what really is the floor seems to lie below it."""
    rng = np.random.default_rng(2)
    plane = rng.uniform(0.2, 0.6, 80)
    ratio = np.where(np.arange(80) < 40, 1.0, rng.uniform(1.2, 3, 80))
    sure = np.full(80, 1e4)
    assert FLOOR.best_scale(plane, plane * ratio, sure, 0.5, 6) == 1
    assert FLOOR.best_scale(plane, plane * ratio / 1.5, sure, 0.5, 6) == pytest.approx(1 / 1.5, rel=0.03)


def test_first_guesses_survive_a_crowd_of_outliers():
    rng = np.random.default_rng(3)
    rays, inverse_depth = scene(rng, 120)
    angle, down = 0.08, FLOOR.down
    R = exp_rotation(angle * down)
    shift = np.array([0.03, 0.0, 0.1])
    t = -R @ (shift - down * (down @ shift))
    observed = seen(rays, inverse_depth, R, t)
    observed[:20] += 0.1
    guess = on_plane(rays, observed, FLOOR, 0.005, rng)
    np.testing.assert_allclose(guess[0], R, atol=5e-3)
    np.testing.assert_allclose(guess[1], t, atol=0.01)
    assert guess[2][20:60].mean() > 0.9
    assert not guess[2][:20].any()
    guess = by_essential(rays, observed, inverse_depth, 0.002)
    np.testing.assert_allclose(guess[0], R, atol=1e-3)
    np.testing.assert_allclose(guess[1], t, atol=3e-3)
    assert not guess[2][:20].any()


def test_a_turn_alone_is_found_among_outliers():
    rng = np.random.default_rng(4)
    rays, inverse_depth = scene(rng)
    R = exp_rotation(np.array([0.02, -0.1, 0.03]))
    observed = seen(rays, inverse_depth, R, np.zeros(3))
    observed[::5] += rng.uniform(-0.1, 0.1, (12, 2))
    np.testing.assert_allclose(turn_alone(rays, observed, 0.001), R, atol=1e-4)


def test_levelled_keeps_heading_and_place():
    tilted = levelled(np.eye(4), FLOOR.down, 0.5)
    np.testing.assert_allclose(tilted[:3, :3] @ FLOOR.down, [0, 0, -1], atol=1e-12)
    assert tilted[2, 3] == 0.5
    moved = tilted.copy()
    moved[:3, 3] += [3, 4, 0.2]
    moved[:3, :3] = tilted[:3, :3] @ exp_rotation(np.array([0.05, 0, 0.0]))
    again = levelled(moved, FLOOR.down, 0.5)
    np.testing.assert_allclose(again[:3, 3], [3, 4, 0.5])
    np.testing.assert_allclose(again[:3, :3], tilted[:3, :3], atol=1e-9)


@pytest.fixture(scope="module")
def drive() -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    spec = SequenceSpec("rooms", "robot", frames=60, camera_height=0.5, camera_pitch=12, hfov=80)
    sequence = generate(spec, seed=31)
    torch.set_num_threads(1)
    images = sequence.render().rgb.numpy()
    return images, sequence.camera.matrix(), sequence.T_world_camera, 0.5, 12.0


def test_the_floor_gives_metres(drive):
    images, matrix, truth, height, pitch = drive
    poses = floor_odometry(images, matrix, height, pitch)
    assert len(poses) == len(truth)
    assert absolute_error(poses, truth, "se3") / path_length(truth) < 0.02
    assert step_errors(poses, truth)[0].mean() < 0.2
    np.testing.assert_array_equal(poses, floor_odometry(images, matrix, height, pitch))


def test_one_camera_gives_the_way_up_to_scale(drive):
    images, matrix, truth, _, _ = drive
    poses = essential_odometry(images, matrix)
    assert absolute_error(poses, truth, "sim3") / path_length(truth) < 0.04
    assert step_errors(poses, truth)[0].mean() < 0.3


def test_a_covered_lens_is_no_leap(drive):
    images, matrix, _, height, pitch = drive
    covered = images[:40].copy()
    covered[25:29] = 128
    for poses in (floor_odometry(covered, matrix, height, pitch), essential_odometry(covered, matrix)):
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        assert np.isfinite(poses).all()
        assert steps[23:32].max() < 3 * steps[10:23].max()


def test_a_dark_beginning_is_only_a_late_one(drive):
    images, matrix, truth, height, pitch = drive
    dark = images.copy()
    dark[:3] = 0
    for poses, mode in (
        (floor_odometry(dark, matrix, height, pitch), "se3"),
        (essential_odometry(dark, matrix), "sim3"),
    ):
        assert absolute_error(poses[5:], truth[5:], mode) / path_length(truth) < 0.04


def test_images_without_corners_are_no_motion_and_no_crash():
    blank = np.full((8, 42, 56, 3), 128, np.uint8)
    matrix = np.array([[30.0, 0, 27.5], [0, 30.0, 20.5], [0, 0, 1]])
    for poses in (floor_odometry(blank, matrix, 0.5, 10), essential_odometry(blank, matrix)):
        assert poses.shape == (8, 4, 4)
        assert np.linalg.norm(poses[-1, :3, 3] - poses[0, :3, 3]) < 1e-6
