"""Ways through places: how they move, that they touch nothing, that they close, that seeds decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loger_ros.geometry import inverse, log_rotation
from loger_ros.types import Frame
from loger_ros.world import NAMED_SETS, PRESETS, SequenceSpec, generate, named_sequence
from loger_ros.world.generate import LEAST_CLEARANCE, clearance
from loger_ros.world.sequences import MOTIONS, PLACES


def steps(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres and degrees from frame to frame."""
    relative = inverse(poses[:-1]) @ poses[1:]
    turned = np.degrees(np.linalg.norm(log_rotation(relative[:, :3, :3]), axis=1))
    return np.linalg.norm(relative[:, :3, 3], axis=1), turned


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_is_what_was_promised(place: str, motion: str) -> None:
    metres, degrees = [], []
    for seed in range(3):
        sequence = generate(SequenceSpec(place, motion, frames=120), seed)
        poses = sequence.T_world_camera
        rotation = poses[:, :3, :3]
        assert np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max() < 1e-9
        assert clearance(sequence.scene, poses[:, :3, 3]).min() >= LEAST_CLEARANCE
        step, turn = steps(poses)
        metres.append(step)
        degrees.append(turn)
    metres, degrees = np.concatenate(metres), np.concatenate(degrees)
    assert metres.max() < 0.085
    assert degrees.max() < 3.3  # with the shake
    moving = metres[(metres > 0.02) & (degrees < 1.0)]
    assert 0.03 < np.median(moving) < 0.08
    assert degrees.max() > 0.3


def test_a_robot_stays_on_its_wheels() -> None:
    for seed in range(6):
        sequence = generate(SequenceSpec(frames=60), seed)
        assert 0.2 <= sequence.mount.height <= 1.2
        assert 0 <= sequence.mount.pitch <= 20
        hfov = np.degrees(2 * np.arctan(sequence.camera.width / 2 / sequence.camera.fx))
        assert 60 <= hfov <= 100
        height = sequence.T_world_camera[:, 2, 3]
        assert np.abs(height - sequence.mount.height).max() < 0.005
        down = np.degrees(np.arcsin(-sequence.T_world_camera[:, 2, 2]))
        assert np.abs(down - sequence.mount.pitch).max() < 1.5
        base = sequence.T_world_base
        assert np.abs(base[:, 2, 3]).max() < 0.01
        assert base[:, 2, 2].min() > 0.999


def test_what_is_asked_for_is_kept() -> None:
    spec = SequenceSpec(frames=20, hfov=77.0, camera_height=0.55, camera_pitch=7.0, rate=20.0)
    sequence = generate(spec, 1)
    assert (sequence.mount.height, sequence.mount.pitch) == (0.55, 7.0)
    assert np.degrees(2 * np.arctan(sequence.camera.width / 2 / sequence.camera.fx)) == pytest.approx(77)
    assert set(np.diff(sequence.stamps)) == {50_000_000}


def test_robots_stop_reverse_and_turn_in_place() -> None:
    still = back = spin = 0
    for seed in range(8):
        poses = generate(SequenceSpec(frames=400), seed).T_world_base
        step, turn = steps(poses)
        forward = (inverse(poses[:-1]) @ poses[1:])[:, 0, 3]
        still += int(((step < 1e-3) & (turn < 0.05)).sum())
        back += int((forward < -0.02).sum())
        spin += int(((step < 2e-3) & (turn > 1.0)).sum())
    assert min(still, back, spin) > 20, (still, back, spin)


@pytest.mark.parametrize(
    ("place", "motion", "frames"), [("corridor", "robot", 1200), ("rooms", "handheld", 500)]
)
def test_a_loop_closes(place: str, motion: str, frames: int) -> None:
    sequence = generate(SequenceSpec(place, motion, frames=frames, closed=True), 7)
    poses = sequence.T_world_camera
    assert len(poses) == frames
    assert np.abs(poses[0] - poses[-1]).max() < 1e-6
    away = np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1)
    assert away.max() > 2
    assert (away > 1).mean() > 0.5
    assert clearance(sequence.scene, poses[:, :3, 3]).min() >= LEAST_CLEARANCE


def test_a_long_way_stays_long() -> None:
    sequence = generate(SequenceSpec("street", frames=2000), 3)
    step, _ = steps(sequence.T_world_camera)
    assert step.sum() > 50
    assert (step[-300:] > 0.01).mean() > 0.3  # it has not simply come to its end


def test_the_seed_decides() -> None:
    spec = SequenceSpec("corridor", frames=30)
    one, same, other = generate(spec, 5, 2), generate(spec, 5, 2), generate(spec, 5, 3)
    assert np.array_equal(one.T_world_camera, same.T_world_camera)
    assert np.array_equal(one.scene.light.values, same.scene.light.values)
    assert np.array_equal(one.render(3, 5).rgb, same.render(3, 5).rgb)
    assert not np.allclose(one.T_world_camera, other.T_world_camera)


def test_the_place_does_not_depend_on_the_image() -> None:
    spec = SequenceSpec(frames=30, width=32, height=24)
    small, big = generate(spec, 8), generate(replace(spec, width=64, height=48, effects=PRESETS["mild"]), 8)
    assert np.array_equal(small.T_world_camera, big.T_world_camera)


def test_truth_of_the_base_is_that_of_the_camera() -> None:
    sequence = generate(SequenceSpec(frames=40), 3)
    assert np.allclose(sequence.T_world_base @ sequence.mount_transform, sequence.T_world_camera)
    twist = sequence.base_twist[20] / sequence.spec.rate
    before, now = sequence.T_world_base[19:21]
    carried = (inverse(now) @ before)[:3, 3]
    assert np.allclose(twist[:3], -carried)


def test_frames_come_one_by_one_with_their_stamps() -> None:
    sequence = generate(SequenceSpec(frames=20, width=32, height=24), 1)
    frames = list(sequence.frames())
    assert [frame.stamp for frame in frames] == sequence.stamps.tolist()
    assert isinstance(frames[0], Frame)
    assert isinstance(frames[0].stamp, int)
    assert frames[0].image.shape == (24, 32, 3)
    assert np.array_equal(frames[17].image, sequence.render(17, 18).rgb[0])
    with pytest.raises(ValueError, match="not in a sequence of 20"):
        sequence.render(15, 21)


def test_walkers_walk_clear_of_the_camera() -> None:
    walkers = 0
    for seed in range(3):
        sequence = generate(SequenceSpec("rooms", frames=60, movers=4), seed)
        walkers += sum(int(group.sweep.any(1).sum()) for group in sequence.scene.shapes.values()) // 2
        assert clearance(sequence.scene, sequence.T_world_camera[:, :3, 3]).min() >= LEAST_CLEARANCE
    assert walkers >= 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("place", "moon"),
        ("motion", "teleport"),
        ("frames", 0),
        ("split", "holdout"),
        ("rate", 0.0),
        ("hfov", 300.0),
        ("camera_height", 7.0),
        ("camera_pitch", 90.0),
        ("camera_shake", 9.0),
        ("movers", -1),
    ],
)
def test_nonsense_is_refused_with_its_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=str(value)):
        generate(replace(SequenceSpec(frames=10), **{field: value}), 0)


def test_a_loop_needs_some_frames() -> None:
    with pytest.raises(ValueError, match="at least 100 frames"):
        SequenceSpec(frames=50, closed=True)


def test_a_way_that_cannot_be_found_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(generate.__globals__, "_attempt", lambda *spec: None)
    with pytest.raises(
        ValueError, match=r"^no closed path of 120 frames .*\(corridor, robot, seed 3.*ask for more"
    ):
        generate(SequenceSpec("corridor", frames=120, closed=True), 3)
    with pytest.raises(
        ValueError, match=r"no path of 100 frames .* another number of frames or another seed$"
    ):
        generate(SequenceSpec(), 3)


def test_the_named_sets_are_long_and_wear_unseen_textures() -> None:
    assert set(NAMED_SETS) == {"robot_rooms", "robot_corridor_loop", "street", "handheld"}
    for _, specs in NAMED_SETS.values():
        assert len(specs) >= 3
        assert all(spec.frames >= 500 and spec.split == "test" for spec in specs)


@pytest.mark.parametrize("name", NAMED_SETS)
def test_the_named_sets_can_be_made(name: str) -> None:
    for index, spec in enumerate(NAMED_SETS[name][1]):
        sequence = named_sequence(name, index, 32, 24)
        assert len(sequence) == spec.frames
        poses = sequence.T_world_camera
        assert clearance(sequence.scene, poses[:, :3, 3]).min() >= LEAST_CLEARANCE
        assert steps(poses)[0].sum() > 8
        if spec.closed:
            assert np.abs(poses[0] - poses[-1]).max() < 1e-6


def test_unknown_sets_and_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match="choose from robot_rooms"):
        named_sequence("moon", 0)
    with pytest.raises(ValueError, match="0 to 3, not 9"):
        named_sequence("street", 9)


# Of sequence 0: where frame 300 stands, and its mean colour at 32x24.
REFERENCE = {
    "robot_rooms": ([9.127, 6.546, 0.394], [105.9, 107.5, 104.6]),
    "robot_corridor_loop": ([7.018, 2.453, 0.44], [79.2, 64.2, 47.9]),
    "street": ([1.67, -3.628, 0.426], [92.5, 94.2, 96.7]),
    "handheld": ([7.38, 2.611, 1.644], [143.2, 145.7, 137.0]),
}


@pytest.mark.parametrize("name", NAMED_SETS)
def test_the_named_sets_stay_what_they_are(name: str) -> None:
    """Published tables refer to them. Whoever changes them on purpose measures the tables again."""
    sequence = named_sequence(name, 0, 32, 24)
    position, colour = REFERENCE[name]
    assert np.abs(sequence.T_world_camera[300, :3, 3] - position).max() < 2e-3
    assert np.abs(sequence.render(300, 301).rgb.float().mean((0, 1, 2)).numpy() - colour).max() < 1.0


def test_a_sequence_may_have_one_frame():
    assert len(generate(SequenceSpec(frames=1), 3).render()) == 1
