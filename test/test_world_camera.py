"""Pixels to rays and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.world import Camera, SequenceSpec, generate

LENSES = [(), (-0.2, 0.05, 0.001, -0.002, -0.005), (0.1, 0.0, 0.0, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("hfov", "distortion"), [*((85.0, lens) for lens in LENSES), (100.0, (0.3, 0.1, 0.0, 0.0, 0.0))]
)
def test_rays_project_to_their_own_pixels(hfov: float, distortion: tuple[float, ...]) -> None:
    camera = Camera.from_fov(64, 48, hfov, distortion)
    rays = camera.rays().double()
    points = 3.7 * torch.cat([rays, torch.ones_like(rays[..., :1])], -1)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    assert (camera.project(points) - torch.stack([x, y], -1)).abs().max() < 1e-4


@pytest.mark.parametrize(
    "distortion", [(-0.4, 0.0, 0.0, 0.0, 0.0), (-0.9, 0.3, 0.0, 0.0, 0.0), (0.0, 0.0, 0.5, 0.0, 0.0)]
)
def test_a_lens_that_folds_its_image_is_refused(distortion: tuple[float, ...]) -> None:
    """Towards the edge, in the middle only, or on one side."""
    with pytest.raises(ValueError, match=r"distortion .* folds the image"):
        Camera.from_fov(64, 48, 100.0, distortion)
    with pytest.raises(ValueError, match="lower the distortion or the field of view"):
        generate(SequenceSpec(hfov=100, distortion=distortion), seed=1)


def test_distortion_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    camera = Camera(64, 48, 40.0, 41.0, 30.0, 25.0, LENSES[1])
    points = torch.rand(50, 3, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 1.0])
    theirs, _ = cv2.projectPoints(
        points.numpy(), np.zeros(3), np.zeros(3), camera.matrix(), np.array(camera.distortion)
    )
    assert np.abs(camera.project(points).numpy() - theirs[:, 0]).max() < 1e-9


def test_the_field_of_view_is_that_of_the_image_from_edge_to_edge() -> None:
    camera = Camera.from_fov(100, 60, 90.0)
    edges = camera.unproject(torch.tensor([[-0.5, 29.5], [99.5, 29.5]], dtype=torch.float64))
    assert edges[:, 0].tolist() == pytest.approx([-1.0, 1.0])


def test_a_resized_camera_sees_the_same() -> None:
    camera = Camera.from_fov(112, 84, 75.0)
    half = camera.resized(56, 42)
    four = torch.tensor([[10.0, 20.0], [11.0, 20.0], [10.0, 21.0], [11.0, 21.0]])
    middle = camera.unproject(four).mean(0)  # of the four pixels that are averaged into pixel (5, 10)
    assert torch.allclose(half.unproject(torch.tensor([5.0, 10.0])), middle, atol=1e-6)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="field of view"):
        Camera.from_fov(10, 10, 0.0)
    with pytest.raises(ValueError, match="at least one pixel"):
        Camera.from_fov(0, 10, 90.0)
    with pytest.raises(ValueError, match="5 numbers"):
        Camera.from_fov(10, 10, 90.0, (0.1,))
