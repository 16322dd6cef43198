from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden

from loger_ros.config import CloudConfig
from loger_ros.geometry import exp_rotation, transform
from loger_ros.mapping.cloud import cloud_of, depth_edges, world_points
from loger_ros.types import PosedFrame, Update

ALL = CloudConfig(min_confidence=0, edge_tolerance=0, stride=1)


def update(count=2, height=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, height, width, 3, generator=generator) + torch.tensor([0, 0, 1.0])
    confidence = torch.randn(count, height, width, 1, generator=generator)
    images = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    poses = [transform(exp_rotation(np.array([0.1, i, 0.3])), np.array([i, 2.0, 3.0])) for i in range(count)]
    frames = tuple(PosedFrame(i, pose, np.eye(6), i == 0, 0) for i, pose in enumerate(poses))
    return Update(frames, images, points, confidence, 0, np.eye(4), 1.0)


def test_edges_are_the_published_ones():
    units = golden("units")
    assert torch.equal(depth_edges(units["depth_edge.depth"], 0.03), units["depth_edge.mask_rtol0.03"].bool())


def test_points_go_where_the_poses_say():
    source = update()
    cloud = cloud_of(source, ALL)
    assert len(cloud) == 2 * 6 * 8
    expected = [
        (frame.T_map_camera[:3, :3] @ point + frame.T_map_camera[:3, 3])
        for frame, points in zip(source.frames, source.local_points.double().numpy(), strict=True)
        for point in points.reshape(-1, 3)
    ]
    assert np.allclose(cloud.points, expected, atol=1e-5)
    assert torch.equal(cloud.colours, source.images.reshape(-1, 3))
    assert torch.allclose(cloud.confidence, source.confidence.sigmoid().flatten())


def test_only_final_frames_where_that_is_asked_for():
    source = update()
    assert len(cloud_of(source[: source.final_count], ALL)) == 6 * 8


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CloudConfig(min_confidence=0.5, edge_tolerance=0, stride=1), lambda u: u.confidence[..., 0] >= 0),
        (
            CloudConfig(min_confidence=0, edge_tolerance=0, stride=1, min_range=1.2, max_range=1.7),
            lambda u: (u.local_points[..., 2] > 1.2) & (u.local_points[..., 2] < 1.7),
        ),
        (
            CloudConfig(min_confidence=0, edge_tolerance=0.5, stride=1),
            lambda u: ~depth_edges(u.local_points[..., 2], 0.5),
        ),
    ],
)
def test_filters(config, reason):
    source = update()
    keep = reason(source)
    assert 0 < keep.sum() < keep.numel()
    cloud = cloud_of(source, config)
    assert torch.equal(cloud.colours, source.images[keep])


def test_stride_keeps_the_same_edges():
    """Edges are looked for before pixels are skipped."""
    source = update(height=12, width=12)
    config = CloudConfig(min_confidence=0, edge_tolerance=0.4, stride=3)
    keep = ~depth_edges(source.local_points[..., 2], 0.4)[:, ::3, ::3]
    assert torch.equal(cloud_of(source, config).colours, source.images[:, ::3, ::3][keep])


def test_what_is_not_finite_never_reaches_a_map():
    source = update()
    source.local_points[0, 0, 0, 0] = float("nan")
    source.local_points[0, 1, 1, 2] = float("inf")
    source.confidence[1, 0, 0] = float("nan")
    cloud = cloud_of(source, ALL)
    assert len(cloud) == 2 * 6 * 8 - 3
    assert cloud.points.isfinite().all()


def test_world_points_are_the_published_ones():
    data = golden("windows_plain_fp32ns")
    if "merged.points" not in data.tensors:
        pytest.skip("world points are not among the shipped tensors")
    points = world_points(data["merged.local_points"][0], data["merged.camera_poses"][0])
    assert torch.allclose(points, data["merged.points"][0], rtol=1e-5, atol=1e-3)
