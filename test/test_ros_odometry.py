"""Poses of the camera become odometry of the robot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from posed_updates import random_pose, update

from loger_ros.geometry import BODY_FROM_OPTICAL, adjoint, difference, exp_rotation, inverse, mount, transform
from loger_ros.ros.odometry import UNKNOWN, Odometer

SECOND = 1_000_000_000


def test_a_camera_that_looks_ahead_moves_the_robot_ahead() -> None:
    odometer = Odometer(mount((0.3, 0.0, 1.0), (0.0, 0.0, 0.0)))
    ahead = transform(np.eye(3), np.array([0.0, 0.0, 2.0]))  # z is ahead for a camera
    motions = odometer.follow(update({0: np.eye(4), SECOND: ahead}))
    assert np.allclose(motions[1].T_odom_base, transform(np.eye(3), np.array([2.0, 0, 0])))
    assert np.allclose(motions[1].T_map_odom, np.eye(4))
    assert np.allclose(motions[1].twist, [2, 0, 0, 0, 0, 0])


def test_turning_on_the_spot_does_not_move_the_robot() -> None:
    T_base_camera = mount((0.5, 0.1, 1.0), (0.0, 0.4, 0.0))
    odometer = Odometer(T_base_camera)
    turn = transform(exp_rotation(np.array([0, 0, 0.3])), np.zeros(3))
    camera = inverse(T_base_camera) @ turn @ T_base_camera  # swings around the robot's middle
    motion = odometer.follow(update({0: np.eye(4), SECOND // 2: camera}))[1]
    assert np.allclose(motion.T_odom_base, turn)
    assert np.allclose(motion.twist, [0, 0, 0, 0, 0, 0.6])


def test_velocity_on_a_circle_is_straight_ahead() -> None:
    odometer = Odometer(BODY_FROM_OPTICAL)
    angle, radius = 0.2, 3.0
    place = np.array([radius * np.sin(angle), radius * (1 - np.cos(angle)), 0])
    pose = transform(exp_rotation(np.array([0, 0, angle])), place)
    camera = inverse(BODY_FROM_OPTICAL) @ pose @ BODY_FROM_OPTICAL
    twist = odometer.follow(update({0: np.eye(4), SECOND: camera}))[1].twist
    chord = 2 * radius * np.sin(angle / 2)
    assert np.allclose(twist, [chord, 0, 0, 0, 0, angle])


def test_odom_does_not_jump_where_a_chunk_sees_the_past_differently() -> None:
    rng = np.random.default_rng(0)
    T_base_camera = random_pose(rng)
    odometer = Odometer(T_base_camera)
    poses = {i * SECOND: random_pose(rng, 0.1) for i in range(4)}
    first = odometer.follow(update(poses))
    shift = random_pose(rng)
    moved = {stamp: shift @ pose for stamp, pose in poses.items() if stamp >= 2 * SECOND}
    later = {4 * SECOND: shift @ random_pose(rng, 0.1)}
    (motion,) = odometer.follow(update({**moved, **later}))
    step = inverse(first[-1].T_odom_base) @ motion.T_odom_base
    cameras = inverse(moved[3 * SECOND]) @ later[4 * SECOND]
    assert np.allclose(step, T_base_camera @ cameras @ inverse(T_base_camera))
    in_map = motion.T_map_odom @ motion.T_odom_base
    start = inverse(poses[0] @ inverse(T_base_camera))
    assert np.allclose(in_map, start @ later[4 * SECOND] @ inverse(T_base_camera))


def test_a_new_segment_goes_on_with_unknown_velocity_even_back_in_time() -> None:
    rng = np.random.default_rng(1)
    odometer = Odometer(random_pose(rng))
    poses = [random_pose(rng, 0.1) for _ in range(3)]
    before = odometer.follow(update(dict(zip((100, 200, 300), poses, strict=True))))
    after = odometer.follow(update({50: poses[-1], 150: poses[0]}, segment=1))
    assert [motion.stamp for motion in after] == [50, 150]
    assert np.allclose(after[0].T_odom_base, before[-1].T_odom_base)
    assert after[0].twist_covariance[0, 0] == UNKNOWN
    assert after[1].twist_covariance[0, 0] < UNKNOWN * 1e10


def test_odom_does_not_go_back_where_a_chunk_is_lost_after_previews() -> None:
    rng = np.random.default_rng(2)
    odometer = Odometer(random_pose(rng))
    poses = [random_pose(rng, 0.1) for _ in range(4)]
    previews = update(dict(zip((100, 200, 300, 400), poses, strict=True)))
    seen = odometer.follow(previews)
    # The next segment goes on at the last final pose, which was that of 200.
    after = odometer.follow(update({500: poses[1], 600: poses[2]}, segment=1))
    assert np.allclose(after[0].T_odom_base, seen[-1].T_odom_base)
    assert after[0].twist_covariance[0, 0] == UNKNOWN
    for motion, placed in zip(after, (seen[1], seen[2]), strict=True):
        assert np.allclose(motion.T_map_odom @ motion.T_odom_base, placed.T_map_odom @ placed.T_odom_base)


def test_a_chunk_that_is_of_another_segment_than_its_previews_moves_the_robot_once() -> None:
    """As where its memory was lost and it shares no frame."""
    rng = np.random.default_rng(3)
    odometer = Odometer(random_pose(rng))
    poses = [random_pose(rng, 0.1) for _ in range(4)]
    shown = odometer.follow(replace(update(dict(zip((100, 200), poses, strict=False))), chunk=3))
    chunk = update(dict(zip((100, 200, 300, 400), poses, strict=True)), segment=1)
    after = odometer.follow(replace(chunk, chunk=3))
    assert [motion.stamp for motion in after] == [300, 400]
    whole = Odometer(inverse(odometer._T_camera_base)).follow(chunk)
    for motion, expected in zip((*shown, *after), whole, strict=True):
        assert np.allclose(motion.T_odom_base, expected.T_odom_base)


def test_final_poses_lay_the_map_not_previews() -> None:
    """A network may put the first frame elsewhere as its chunk grows."""
    rng = np.random.default_rng(5)
    poses = {stamp: random_pose(rng) for stamp in (100, 200, 300, 400)}
    place = random_pose(rng)
    for told in (False, True):
        odometer = Odometer(random_pose(rng))
        for count in (1, 2, 3):
            elsewhere = random_pose(rng)
            (shown,) = odometer.follow(
                update({s: elsewhere @ poses[s] for s in list(poses)[:count]}, final=0)
            )[-1:]
        if told:
            odometer.place(place)
        elsewhere = random_pose(rng)
        whole = update({stamp: elsewhere @ pose for stamp, pose in poses.items()}, final=3)
        in_map = odometer.in_map(whole.frames[:3])
        if told:
            assert np.allclose(in_map[2], place)
        else:
            assert np.allclose(in_map[0], np.eye(4))
            assert np.allclose(in_map[2], shown.T_map_odom @ shown.T_odom_base)
        (motion,) = odometer.follow(whole)
        step = inverse(in_map[2]) @ motion.T_map_odom @ motion.T_odom_base
        assert np.allclose(step, inverse(shown.T_odom_base) @ motion.T_odom_base)
        later = odometer.in_map(update({400: elsewhere @ poses[400]}, final=1).frames)
        assert np.allclose(later[0], motion.T_map_odom @ motion.T_odom_base), "it stays as it was laid"


def test_who_says_where_the_robot_is_says_it_with_its_heading() -> None:
    rng = np.random.default_rng(4)
    odometer = Odometer(random_pose(rng))
    poses = [random_pose(rng) for _ in range(3)]
    before = odometer.follow(update(dict(zip((100, 200), poses, strict=False))))[-1]
    place = random_pose(rng)
    odometer.place(place)
    (after,) = odometer.follow(update(dict(zip((200, 300), poses[1:], strict=True))))
    step = inverse(before.T_odom_base) @ after.T_odom_base
    assert np.allclose(after.T_map_odom @ after.T_odom_base, place @ step)


def test_covariances_follow_a_sample_of_errors() -> None:
    """Small errors of the camera, drawn and carried through the geometry, against the formula."""
    rng = np.random.default_rng(2)
    T_base_camera = mount((0.3, 0.2, 0.8), (0.1, 0.4, -0.2))
    odometer = Odometer(T_base_camera)
    start, camera = random_pose(rng), random_pose(rng)
    said = update({0: start, SECOND // 10: camera})
    motion = odometer.follow(said)[1]
    errors = rng.multivariate_normal(np.zeros(6), said.frames[1].covariance, 4000)
    in_map = motion.T_map_odom @ motion.T_odom_base
    sample = []
    for error in errors:  # in the axes of the world, at the camera
        turned = exp_rotation(error[3:]) @ camera[:3, :3]
        wrong = transform(turned, camera[:3, 3] + error[:3])
        base = inverse(start @ inverse(T_base_camera)) @ wrong @ inverse(T_base_camera)
        off = difference(in_map, base)  # in the axes of the base
        sample.append(np.concatenate([in_map[:3, :3] @ off[:3], in_map[:3, :3] @ off[3:]]))
    measured = np.cov(np.array(sample).T)
    poses = odometer.in_map(said.frames)
    formula = odometer.covariances(said.frames, poses)[1]
    assert np.allclose(poses[1], in_map)
    assert np.abs(measured - formula).max() < 0.1 * np.abs(formula).max()
    carry = adjoint(T_base_camera)
    assert np.allclose(motion.twist_covariance, 2 * carry @ said.noise @ carry.T * 100)


def test_a_reset_does_not_make_odom_surer() -> None:
    """What the robot was off by in odom when the map began anew, it is still off by, more so far away."""
    rng = np.random.default_rng(8)
    odometer = Odometer(random_pose(rng))
    (before,) = odometer.follow(update({0: random_pose(rng)}))
    odometer.restart()
    on_its_way = {SECOND: np.eye(4), 2 * SECOND: random_pose(rng, 3.0)}
    fresh = Odometer(inverse(odometer._T_camera_base))
    after, anew = (odo.follow(update(on_its_way, segment=1))[-1] for odo in (odometer, fresh))
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = before.T_odom_base[:3, :3]
    alone = turn @ anew.covariance @ turn.T  # from where the map began, in the axes of odom
    start, place = before.T_odom_base, after.T_odom_base
    errors = rng.multivariate_normal(np.zeros(6), before.covariance, 20_000)
    off = []
    for error in errors:
        moved = transform(exp_rotation(error[3:]) @ start[:3, :3], start[:3, 3] + error[:3])
        there = moved @ inverse(start) @ place
        off.append([*(there[:3, 3] - place[:3, 3]), *error[3:]])
    sampled = np.cov(np.array(off).T)
    assert np.allclose(after.covariance, alone + sampled, atol=0.05 * np.abs(sampled).max())


def test_the_map_can_be_laid_anew_and_begun_anew() -> None:
    rng = np.random.default_rng(3)
    odometer = Odometer(random_pose(rng))
    there = random_pose(rng)
    odometer.place(there)  # before anything was seen
    motion = odometer.follow(update({0: random_pose(rng)}))[0]
    assert np.allclose(motion.T_map_odom @ motion.T_odom_base, there)
    odometer.restart()
    again = odometer.follow(update({5: random_pose(rng)}))[0]
    assert np.allclose(again.T_odom_base, motion.T_odom_base)
    assert np.allclose(again.T_map_odom @ again.T_odom_base, np.eye(4))
