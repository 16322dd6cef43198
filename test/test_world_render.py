"""The ray caster against surfaces whose depth can be written down, and against itself in other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from world_scenes import empty_builder, looking, plain, scene_of, shoot, world_rays

from loger_ros.world import SequenceSpec, generate, render_batch
from loger_ros.world.camera import Camera
from loger_ros.world.render.render import PASS

CAMERA = Camera.from_fov(75, 50, 80.0)
BARREL = Camera.from_fov(75, 50, 80.0, (-0.12, 0.02, 0.001, -0.002, 0.0))
POSE = looking((-4.0, 0.3, 1.1), (1.0, 0.1, -0.15))


def depth_of(builder, camera=CAMERA, pose=POSE, seconds=0.0) -> np.ndarray:
    return shoot([scene_of(builder)], pose[None], camera, seconds).depth[0].numpy()


def slab_depth(origin, rays, low, high) -> np.ndarray:
    """Of an axis-aligned box, in float64; infinite where it is missed."""
    with np.errstate(divide="ignore"):
        a, b = (low - origin) / rays, (high - origin) / rays
    enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def assert_same_depth(made: np.ndarray, true: np.ndarray) -> None:
    """Equal to 1e-5 of the depth; silhouettes may differ in the pixels that a ray just grazes."""
    grazed = np.isfinite(made) != np.isfinite(true)
    assert grazed.mean() < 0.002
    both = np.isfinite(made) & np.isfinite(true)
    assert both.mean() > 0.02
    assert np.abs(made[both] / true[both] - 1).max() < 1e-5


@pytest.mark.parametrize("camera", [CAMERA, BARREL], ids=["pinhole", "distorted"])
def test_a_plane(camera: Camera) -> None:
    builder = empty_builder()
    builder.span((-60, -60, -0.1), (60, 60, 0.0), plain(builder))
    rays = world_rays(camera, POSE)
    with np.errstate(divide="ignore"):
        true = np.where(rays[..., 2] < 0, -POSE[2, 3] / rays[..., 2], np.inf)
    hit = POSE[:3, 3] + np.where(np.isfinite(true), true, 0)[..., None] * rays
    true[np.abs(hit[..., :2]).max(-1) > 60] = np.inf
    assert_same_depth(depth_of(builder, camera), true)


@pytest.mark.parametrize("yaw", [0.0, 0.6, 2.5])
def test_a_box_at_any_angle(yaw: float) -> None:
    builder = empty_builder()
    centre, half = np.array([0.4, 0.2, 0.9]), np.array([0.7, 0.4, 0.5])
    builder.box(tuple(centre), tuple(half), plain(builder), yaw)
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    rays = world_rays(CAMERA, POSE) @ turn.T
    assert_same_depth(depth_of(builder), slab_depth(turn @ (POSE[:3, 3] - centre), rays, -half, half))


def test_a_ball() -> None:
    builder = empty_builder()
    centre, radius = np.array([0.0, 0.5, 0.8]), 0.9
    builder.ellipsoid(tuple(centre), (radius,) * 3, plain(builder))
    rays, offset = world_rays(CAMERA, POSE), POSE[:3, 3] - centre
    a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
    with np.errstate(invalid="ignore"):
        true = (-b - np.sqrt(b * b - a * c)) / a
    assert_same_depth(depth_of(builder), np.where(np.isnan(true), np.inf, true))


def test_a_cylinder_with_its_cap() -> None:
    builder = empty_builder()
    centre, radius, half = np.array([0.2, 0.4, 0.3]), 0.8, 0.35
    builder.cylinder(tuple(centre), (radius, radius, half), plain(builder))
    rays, offset = world_rays(CAMERA, POSE), POSE[:3, 3] - centre
    a, b = (rays[..., :2] ** 2).sum(-1), rays[..., :2] @ offset[:2]
    c = offset[:2] @ offset[:2] - radius**2
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b * b - a * c)
    near, far = (-b - root) / a, (-b + root) / a
    low, high = sorted_pair((-half - offset[2]) / rays[..., 2], (half - offset[2]) / rays[..., 2])
    enter, leave = np.maximum(near, low), np.minimum(far, high)
    true = np.where((enter < leave) & (enter > 0), enter, np.inf)
    assert (near < low).any(), "the cap is in view"
    assert_same_depth(depth_of(builder), true)


def sorted_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(a, b), np.maximum(a, b)


def test_the_nearest_of_many_wins() -> None:
    rng = np.random.default_rng(3)
    builder, boxes = empty_builder(), []
    for _ in range(60):
        centre, half = rng.uniform((-2, -3, 0), (5, 3, 2.5)), rng.uniform(0.05, 0.5, 3)
        if np.all(np.abs(POSE[:3, 3] - centre) < half + 0.1):
            continue
        builder.box(tuple(centre), tuple(half), plain(builder))
        boxes.append((centre - half, centre + half))
    rays = world_rays(CAMERA, POSE)
    true = np.min([slab_depth(POSE[:3, 3], rays, low, high) for low, high in boxes], 0)
    made = depth_of(builder)
    both = np.isfinite(made) & np.isfinite(true)
    assert both.mean() > 0.2
    assert (np.abs(made[both] / true[both] - 1) > 1e-5).mean() < 0.002  # grazed edges
    assert (np.isfinite(made) != np.isfinite(true)).mean() < 0.002


def test_from_inside_one_sees_nothing_of_a_shape() -> None:
    builder = empty_builder()
    builder.box(tuple(POSE[:3, 3]), (0.5, 0.5, 0.5), plain(builder))
    assert np.isinf(depth_of(builder)).all()


def test_level_rays_in_the_plane_of_a_face() -> None:
    builder = empty_builder()
    builder.span((2.0, -1.0, 0.0), (3.0, 1.0, 1.0), plain(builder))
    pose = looking((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))  # at the height of the upper face, exactly
    depth = depth_of(builder, Camera.from_fov(75, 51, 60.0), pose)
    assert not np.isnan(depth).any()
    assert np.allclose(depth[26:, 37], 2.0)
    assert np.isinf(depth[:25]).all()


@pytest.mark.parametrize("height", [0.2, 0.5, 0.8])
def test_rays_that_never_leave_a_slab(height: float) -> None:
    """Straight ahead, x and z of the ray do not change, wherever the camera is between the planes."""
    builder = empty_builder()
    builder.span((2.0, -1.0, 0.0), (3.0, 1.0, 1.0), plain(builder))
    for side in (-0.5, 0.0, 0.5):
        pose = looking((0.0, side, height), (1.0, 0.0, 0.0))
        assert depth_of(builder, Camera.from_fov(5, 5, 10.0), pose)[2, 2] == pytest.approx(2.0, abs=1e-6)


def test_what_looks_out_of_a_gap_is_harmless() -> None:
    """Rays that meet nothing, while the first shape of the scene lies in all kinds of directions."""
    builder = empty_builder()
    builder.box((0.0, 0.0, 1.0), (0.2, 0.2, 0.2), plain(builder))
    for forward in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 1e-9, 0.0), (0.6, 0.8, 1e-12)):
        rendered = shoot(
            [scene_of(builder)], looking((3.0, 0.0, 1.0), forward)[None], Camera.from_fov(31, 31, 90.0)
        )
        assert torch.isfinite(rendered.rgb).all()


def test_a_moving_box_is_where_its_swing_has_taken_it() -> None:
    builder = empty_builder()
    builder.box((3.0, 0.0, 1.0), (0.5, 0.5, 0.5), plain(builder), sweep=(1.0, 0.0, 0.0, 4.0))
    pose = looking((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    camera = Camera.from_fov(31, 31, 40.0)
    for seconds, face in ((0.0, 2.5), (1.0, 3.5), (2.0, 2.5), (3.0, 1.5), (3.5, 2.0)):
        rendered = shoot([scene_of(builder)], pose[None], camera, seconds)
        assert rendered.depth[0, 15, 15].item() == pytest.approx(face, abs=1e-5)
        assert rendered.moving[0, 15, 15]
        assert not rendered.moving[0, 0, 0]


def test_an_empty_view_is_sky() -> None:
    builder = empty_builder()
    builder.box((-9.0, 0.0, 1.0), (0.5, 0.5, 0.5), plain(builder))  # behind the camera
    rendered = shoot([scene_of(builder)], POSE[None], CAMERA)
    assert torch.isinf(rendered.depth).all()
    assert torch.isfinite(rendered.rgb).all()


def test_far_textures_do_not_flicker() -> None:
    """Small steps change the image of a distant wall little: mip levels are chosen well."""
    builder = empty_builder()
    builder.box((12.0, 0.0, 0.0), (0.5, 60.0, 60.0), builder.skin("box", 0.5))
    steps = np.stack([looking((0.0, 0.003 * i, 1.0), (1.0, 0.0, 0.0)) for i in range(8)])
    rgb = shoot([scene_of(builder)], steps, Camera.from_fov(96, 64, 80.0)).rgb
    assert (rgb[1:] - rgb[:-1]).abs().mean() < 0.01


@pytest.mark.parametrize("place", ["rooms", "corridor", "street"])
def test_the_batch_does_not_matter(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SequenceSpec(place, frames=20, width=60, height=44)
    first, second = generate(spec, 4, 0), generate(spec, 4, 1)
    whole = first.render()
    alone = [first.render(i, i + 1) for i in (0, 7, 19)]
    for number, clip in zip((0, 7, 19), alone, strict=True):
        assert torch.equal(clip.rgb[0], whole.rgb[number])
        assert torch.equal(clip.depth[0], whole.depth[number])
    together = render_batch([second, first], 5, 12)[1]
    assert torch.equal(together.rgb, whole.rgb[5:12])
    assert torch.equal(together.depth, whole.depth[5:12])
    monkeypatch.setitem(PASS, "cpu", (3 * 60 * 44, 60 * 44))
    assert torch.equal(first.render().rgb, whole.rgb)


def test_too_many_shapes_in_one_tile_are_refused() -> None:
    builder = empty_builder()
    for i in range(600):
        builder.box((2.0 + 0.01 * i, 0.0, 1.0), (0.001, 0.001, 0.001), plain(builder))
    with pytest.raises(ValueError, match="too crowded"):
        shoot(
            [scene_of(builder)],
            looking((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))[None],
            Camera.from_fov(20, 20, 60.0),
        )


def test_scenes_of_two_splits_cannot_share_a_stage() -> None:
    spec = SequenceSpec(frames=5, width=16, height=16)
    train, test = generate(spec, 0), generate(SequenceSpec(frames=5, width=16, height=16, split="test"), 0)
    with pytest.raises(ValueError, match="different splits"):
        render_batch([train, test], 0, 2)
