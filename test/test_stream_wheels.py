"""If a vehicle on wheels seems to slide sideways, that is a turn that was not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_model import FakeModel

from loger_ros.config import ConfigError, StreamConfig
from loger_ros.geometry import inverse, transform
from loger_ros.stream import Reconstructor, wheels
from loger_ros.stream.wheels import turn_per_slide, without_slides
from loger_ros.types import Camera, Frame


def mounted(heading: float, pitch: float, place: tuple[float, float, float]) -> np.ndarray:
    """T_base_camera of a camera that looks ``heading`` degrees to the left and ``pitch`` degrees down."""
    side, down = np.radians([heading, pitch])
    view = np.array([np.cos(side) * np.cos(down), np.sin(side) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(side), -np.cos(side), 0])
    return transform(np.stack([right, np.cross(view, right), view], 1), np.array(place))


def arcs(ahead: np.ndarray, turn: np.ndarray, slide: np.ndarray) -> np.ndarray:
    """Poses of a vehicle, (n + 1, 4, 4), from n steps."""
    poses = [np.eye(4)]
    for a, w, s in zip(ahead, turn, slide, strict=True):
        cos, sin = np.cos(w), np.sin(w)
        step = np.array([[cos, -sin, 0, a], [sin, cos, 0, a * np.tan(w / 2) + s], [0, 0, 1, 0], [0, 0, 0, 1]])
        poses.append(poses[-1] @ step)
    return np.array(poses)


def points_around(mount: np.ndarray, distance: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of ``count`` frames, all at this depth from the camera, with high confidence."""
    v, u = np.indices((12, 16))
    rays = np.stack([(u - 7.5) / 12, (v - 5.5) / 12, np.ones_like(u)], -1)
    points = torch.from_numpy(np.tile(distance * rays, (count, 1, 1, 1))).float()
    return points, torch.full_like(points[..., :1], 20.0)


STEPS = np.array([0.1, 0.12, 0.0, -0.05, 0.1])
TURNS = np.array([0.0, 0.05, 0.1, -0.03, -0.08])
SLIDES = np.array([0.01, -0.02, 0.005, 0.0, 0.01])
MOUNTS = [mounted(0, 10, (0.5, 0, 0.4)), mounted(180, 5, (-0.3, 0.1, 1)), mounted(0, 30, (-1, 0.2, 0.7))]


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_way_without_slides_stays_as_it_is(mount: np.ndarray) -> None:
    poses = arcs(STEPS, TURNS, 0 * SLIDES) @ mount
    made = without_slides(poses, np.tile(mount, (len(poses), 1, 1)), np.full(len(poses), 0.3))
    np.testing.assert_allclose(made, poses, atol=1e-12)


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_turning_point_does_not_slide_and_the_rest_of_the_motion_stays(mount: np.ndarray) -> None:
    poses = mount @ arcs(STEPS, TURNS, SLIDES) @ mount  # chunk frames are arbitrary
    made = without_slides(poses, np.tile(mount, (len(poses), 1, 1)), np.full(len(poses), 0.3))
    np.testing.assert_allclose(made[0], poses[0], atol=1e-12)
    base = made @ inverse(mount)
    steps = inverse(base[:-1]) @ base[1:]
    turn = np.arctan2(steps[:, 1, 0], steps[:, 0, 0])
    np.testing.assert_allclose(turn, TURNS + 0.3 * SLIDES, atol=1e-12)
    np.testing.assert_allclose(steps[:, 0, 3], STEPS, atol=1e-12)
    np.testing.assert_allclose(steps[:, 1, 3], STEPS * np.tan(turn / 2), atol=1e-12)
    np.testing.assert_allclose(steps[:, 2, 3], 0, atol=1e-12)


def test_slopes_and_shaking_stay() -> None:
    """Wheels do not forbid motion up and down, roll or pitch."""
    tilt = mounted(0, 3, (0, 0, 0.05)) @ inverse(mounted(0, 0, (0, 0, 0)))
    poses = np.stack([np.eye(4), transform(np.eye(3), np.array([0.1, 0, 0])) @ tilt])
    made = without_slides(poses, np.tile(np.eye(4), (2, 1, 1)), np.zeros(2))
    np.testing.assert_allclose(made, poses, atol=1e-12)


@pytest.mark.parametrize(("turn", "slide"), [(2.5, 0.3), (0.1, 9.0), (-0.4, -0.5)])
def test_a_step_that_nobody_drives_is_left_as_it_is(turn: float, slide: float) -> None:
    poses = arcs(np.array([0.1]), np.array([turn]), np.array([slide]))
    made = without_slides(poses, np.tile(np.eye(4), (2, 1, 1)), np.full(2, 0.3))
    np.testing.assert_allclose(made, poses, atol=1e-12)


@pytest.mark.parametrize("mount", [*MOUNTS, mounted(90, 10, (0, 0.3, 0.5)), mounted(20, -5, (0.2, 0, 0.5))])
def test_the_turn_moves_the_picture_as_the_slide_does(mount: np.ndarray) -> None:
    """Compared with moving the camera and least squares over its images."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform((-2, -1, 1), (2, 1, 6), (1, 10, 12, 3)))
    logits = torch.from_numpy(rng.normal(0, 2, (1, 10, 12, 1)))
    small = 1e-6

    def picture(motion: np.ndarray) -> np.ndarray:
        """The image (120, 2) of the points after this motion of the vehicle."""
        T_camera_before = inverse(motion @ mount) @ mount
        seen = points.numpy().reshape(-1, 3) @ T_camera_before[:3, :3].T + T_camera_before[:3, 3]
        return seen[:, :2] / seen[:, 2:]

    still = picture(np.eye(4))
    turn = (picture(arcs(np.zeros(1), np.array([small]), np.zeros(1))[1]) - still) / small
    slide = (picture(arcs(np.zeros(1), np.zeros(1), np.array([small]))[1]) - still) / small
    weight = logits.sigmoid().numpy().reshape(-1, 1)
    expected = (weight * turn * slide).sum() / (weight * turn * turn).sum()
    assert turn_per_slide(points, logits, mount[None])[0] == pytest.approx(expected, rel=1e-4)


def test_far_away_a_turn_is_as_small_as_the_distance_is_large() -> None:
    mount = mounted(0, 0, (0, 0, 0.5))
    near, far = (turn_per_slide(*points_around(mount, distance, 1), mount[None])[0] for distance in (2, 200))
    assert near == pytest.approx(100 * far)
    assert 0.3 < near < 0.5, "a slide by 1 at a distance of 2: half, less what only a turn does at the edges"


def test_what_is_not_seen_does_not_count() -> None:
    mount = mounted(0, 10, (0.1, 0, 0.5))[None]
    points, logits = points_around(mount[0], 3, 1)
    expected = turn_per_slide(points, logits, mount)[0]
    broken = points.clone()
    broken[0, 3, 4:7] = torch.tensor([[np.nan, 0, 1], [0, 0, 0], [1, 1, -2]])
    assert turn_per_slide(broken, logits, mount)[0] == pytest.approx(expected, rel=0.01)
    assert turn_per_slide(points * np.nan, logits, mount)[0] == 0


def test_single_points_before_the_lens_do_not_decide() -> None:
    mount = mounted(0, 10, (0.1, 0, 0.5))[None]
    points, logits = points_around(mount[0], 3, 1)
    expected = turn_per_slide(points, logits, mount)[0]
    for near in (0.05, 0.01, 1e-4):
        touched = points.clone()
        touched[0, 2, 3] *= near / 3
        assert turn_per_slide(touched, logits, mount)[0] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_as_many_bits_will_do(dtype: torch.dtype) -> None:
    mount = mounted(0, 10, (0.1, 0, 0.5))[None]
    points, logits = points_around(mount[0], 3, 1)
    expected = turn_per_slide(points, logits, mount)[0]
    assert turn_per_slide(points.to(dtype), logits.to(dtype), mount)[0] == pytest.approx(expected, rel=0.05)


def test_many_points_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = mounted(0, 10, (0.1, 0, 0.5))[None]
    rows, columns = torch.meshgrid(
        torch.linspace(-0.5, 0.5, 360), torch.linspace(-0.7, 0.7, 480), indexing="ij"
    )
    points = 3 * torch.stack([columns, rows, torch.ones_like(rows)], -1)[None]
    some = turn_per_slide(points, torch.zeros(1, 360, 480, 1), mount)
    monkeypatch.setattr(wheels, "POINTS", 10**9)
    every = turn_per_slide(points, torch.zeros(1, 360, 480, 1), mount)
    assert some == pytest.approx(every, rel=0.05)
    assert some != every


def robot(motion: str, camera: Camera | None, alignment: str = "se3") -> Reconstructor:
    model = FakeModel()
    model.mix *= 0.1  # small motions
    return Reconstructor(model, 4, 1, alignment, resolution=(6, 4), motion=motion, camera=camera)


def frames() -> list[Frame]:
    rng = np.random.default_rng(3)
    return [Frame(i, rng.integers(0, 255, (4, 6, 3), dtype=np.uint8)) for i in range(11)]


def test_a_stream_on_wheels() -> None:
    mount = MOUNTS[0]
    camera = Camera(6, 4, np.array([[5.0, 0, 2.5], [0, 5, 1.5], [0, 0, 1]]), T_base_camera=mount)
    stream = robot("wheels", camera)
    updates = [update for frame in frames() for update in stream.push(frame)] + stream.flush()
    made = stream.result()
    base = made.camera_poses.double().numpy() @ inverse(mount)
    steps = inverse(base[:-1]) @ base[1:]
    turn = np.arctan2(steps[:, 1, 0], steps[:, 0, 0])
    np.testing.assert_allclose(steps[:, 1, 3], steps[:, 0, 3] * np.tan(turn / 2), atol=1e-5)
    assert sum(update.final_count for update in updates) == 11
    free = robot("free", camera)
    for frame in frames():
        free.push(frame)
    free.flush()
    assert not torch.allclose(free.result().camera_poses, made.camera_poses, atol=1e-3)
    assert torch.equal(free.result().local_points, made.local_points)
    assert not stream.events.counts


def test_a_camera_that_is_mounted_nobody_knows_how_is_free_and_that_is_said() -> None:
    made, free = robot("wheels", None), robot("free", None)
    for frame in frames():
        made.push(frame)
        free.push(frame)
    assert torch.equal(made.result().camera_poses, free.result().camera_poses)
    assert made.events.counts["mounting_unknown"] == 3
    assert "camera_info" in made.events.recent[-1].message


@pytest.mark.parametrize("settings", [{"alignment": "sim3"}, {"alignment": "robust"}, {"overlap": 0}])
def test_wheels_want_chunks_that_are_joined_rigidly(settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"stream\.motion is 'wheels'; it needs chunks that share frames"):
        StreamConfig(motion="wheels", **settings)


def test_chunks_that_only_memory_joins_are_joined_rigidly() -> None:
    camera = Camera(6, 4, np.array([[5.0, 0, 2.5], [0, 5, 1.5], [0, 0, 1]]), T_base_camera=MOUNTS[0])
    made = [robot("wheels", camera, alignment) for alignment in ("none", "se3")]
    for frame in frames():
        for stream in made:
            stream.push(frame)
    assert torch.equal(made[0].result().camera_poses, made[1].result().camera_poses)
