"""Depth, pose and image agree: what one frame sees is found again in another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from world_scenes import empty_builder, looking, plain, scene_of, shoot

from loger_ros.world import Camera, SequenceSpec, correspondences, generate, patch_centres


def relative(poses: np.ndarray, source: int, target: int) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(poses[target]) @ poses[source])[None]


def look_up(image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Bilinear colours (N, 3) at pixels (N, 2)."""
    height, width, _ = image.shape
    grid = torch.stack([pixels[:, 0] / (width - 1) * 2 - 1, pixels[:, 1] / (height - 1) * 2 - 1], -1)
    planes = image.permute(2, 0, 1)[None].float()
    return functional.grid_sample(planes, grid[None, :, None].float(), align_corners=True)[0, :, :, 0].T


@pytest.mark.parametrize(
    ("place", "motion", "distortion"),
    [
        ("rooms", "robot", ()),
        ("corridor", "handheld", ()),
        ("street", "robot", ()),
        ("rooms", "handheld", (-0.1, 0.01, 0.0, 0.0, 0.0)),
    ],
)
def test_reprojection_gives_the_other_image(place: str, motion: str, distortion: tuple) -> None:
    spec = SequenceSpec(place, motion, frames=30, width=224, height=168, hfov=80, distortion=distortion)
    sequence = generate(spec, 11)
    errors, unwarped, shares = [], [], []
    every = patch_centres(168, 224, 1)
    for source, target in ((0, 1), (10, 14), (29, 22)):
        frames = [sequence.render(number, number + 1) for number in (source, target)]
        pixels, valid = correspondences(
            every,
            frames[0].depth,
            frames[1].depth,
            relative(sequence.T_world_camera, source, target),
            sequence.camera,
        )
        here = frames[0].rgb[0].reshape(-1, 3)[valid[0]].float()
        there = look_up(frames[1].rgb[0], pixels[0])[valid[0]]
        errors.append((here - there).abs().mean().item())
        unwarped.append((here - frames[1].rgb[0].reshape(-1, 3)[valid[0]].float()).abs().mean().item())
        shares.append(valid.float().mean().item())
    print(f"{place}, {motion}: {np.mean(errors):.2f} of 255, {np.mean(unwarped):.2f} if nothing had moved")
    assert np.mean(shares) > 0.4
    assert np.mean(errors) < 6
    assert np.mean(errors) < 0.45 * np.mean(unwarped)


def test_a_point_keeps_its_place_in_the_world() -> None:
    sequence = generate(SequenceSpec(frames=12, width=112, height=84), 2)
    clip = sequence.render()
    centres = patch_centres(84, 112, 7)
    pixels, valid = correspondences(
        centres, clip.depth[:1], clip.depth[8:9], relative(sequence.T_world_camera, 0, 8), sequence.camera
    )
    assert valid.sum() > 40
    rays = sequence.camera.unproject(pixels[0][valid[0]].double())
    seen = pixels[0][valid[0]].round().long()
    depth = clip.depth[8][seen[:, 1], seen[:, 0]].double()
    there = torch.cat([rays, torch.ones_like(rays[:, :1])], 1) * depth[:, None]
    pose = torch.from_numpy(sequence.T_world_camera)
    world = there @ pose[8, :3, :3].T + pose[8, :3, 3]
    back = (world - pose[0, :3, 3]) @ pose[0, :3, :3]
    again = sequence.camera.project(back)
    assert (again - centres[valid[0]]).norm(dim=1).median() < 0.5


def test_what_is_hidden_is_said_to_be_hidden() -> None:
    builder = empty_builder()
    builder.span((5.0, -20.0, -20.0), (5.5, 20.0, 20.0), plain(builder))  # a wall
    builder.span((2.0, -0.2, -9.0), (2.3, 0.2, 9.0), plain(builder))  # a post before it
    camera = Camera.from_fov(120, 90, 80.0)
    poses = np.stack([looking((0.0, y, 1.0), (1.0, 0.0, 0.0)) for y in (0.0, 1.0)])
    depth = shoot([scene_of(builder)], poses, camera).depth
    points = patch_centres(90, 120, 1)
    pixels, valid = correspondences(points, depth[:1], depth[1:], relative(poses, 0, 1), camera)

    rays = camera.unproject(points.double())
    metres = depth[0].reshape(-1).double()
    world = torch.stack([metres, -rays[:, 0] * metres, 1.0 - rays[:, 1] * metres], 1)
    on_wall = metres > 4
    way = world - torch.tensor([0.0, 1.0, 1.0])
    share = 2.0 / way[:, 0]  # where the line of sight passes the post's front
    crossing = 1.0 + share * way[:, 1]
    behind = on_wall & (crossing.abs() < 0.19)
    beside = on_wall & (crossing.abs() > 0.35) & (pixels[0] > 1).all(-1) & (pixels[0, :, 0] < 118)
    beside &= pixels[0, :, 1] < 88
    away_from_edge = (points[:, 0] - 59.5).abs() > 12
    assert behind.sum() > 100
    assert not valid[0][behind].any()
    assert valid[0][beside & away_from_edge].all()


def test_moving_things_and_the_sky_do_not_correspond() -> None:
    builder = empty_builder()
    builder.box((4.0, 0.0, 1.0), (0.5, 0.8, 0.8), plain(builder), sweep=(0.5, 0.0, 0.0, 4.0))
    camera = Camera.from_fov(60, 40, 60.0)
    pose = looking((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    rendered = shoot([scene_of(builder)], pose[None], camera)
    points = patch_centres(40, 60, 1)
    same = torch.eye(4)[None]
    _, valid = correspondences(points, rendered.depth, rendered.depth, same, camera)
    assert valid.any()
    assert not valid[0][torch.isinf(rendered.depth).view(-1)].any()
    _, masked = correspondences(points, rendered.depth, rendered.depth, same, camera, rendered.moving)
    assert not masked.any()


def test_cameras_of_a_batch_may_differ() -> None:
    clips = [
        generate(SequenceSpec(frames=8, width=56, height=42, hfov=hfov), 3).render() for hfov in (65, 95)
    ]
    points = patch_centres(42, 56, 7)
    motions = [relative(clip.T_world_camera, 0, 5) for clip in clips]
    depths = [torch.stack([clip.depth[i] for clip in clips]) for i in (0, 5)]
    pixels, valid = correspondences(points, *depths, torch.cat(motions), [clip.camera for clip in clips])
    for i, clip in enumerate(clips):
        alone = correspondences(points, clip.depth[:1], clip.depth[5:6], motions[i], clip.camera)
        assert torch.allclose(pixels[i], alone[0][0], atol=1e-4)
        assert torch.equal(valid[i], alone[1][0])
    assert valid.any(1).all()


def test_patches_must_fill_the_image() -> None:
    assert patch_centres(6, 9, 3)[:4].tolist() == [[1.0, 1.0], [4.0, 1.0], [7.0, 1.0], [1.0, 4.0]]
    with pytest.raises(ValueError, match="do not fill"):
        patch_centres(84, 112, 9)
