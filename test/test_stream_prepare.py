from __future__ import annotations

from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from fake_model import FakeModel
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.stream import Reconstructor
from loger_ros.stream.lanczos import lanczos
from loger_ros.stream.lens import scaled
from loger_ros.stream.prepare import (
    Preparation,
    Undistorter,
    check_image,
    network_input,
    resize,
    target_size,
)
from loger_ros.types import Camera

SIDES = st.tuples(st.integers(1, 80), st.integers(1, 80))
MATRIX = np.array([[420.0, 0, 318], [0, 430, 241], [0, 0, 1]])


def test_target_sizes_are_the_published_ones():
    table = golden("units").metadata["resolution_table"]
    assert len(table) >= 10
    for source, target in table.items():
        assert list(target_size(*map(int, source.split("x")))) == target, source


@pytest.mark.parametrize("size", [(56, 42), (112, 98)])
def test_resizing_is_bit_equal_to_the_published_preparation(size):
    units = golden("units")
    small = resize(units["resize.src_uint8"].numpy(), size)
    assert np.array_equal(small, units[f"resize.dst_uint8_{size[0]}x{size[1]}"].numpy())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(before=SIDES, after=SIDES, seed=st.integers(0, 99))
def test_resizing_on_a_gpu_makes_the_same_pixels(before, after, seed):
    """Tested on the CPU; on any device, these are whole numbers."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*before, 3)).astype(np.uint8)
    if seed % 3 == 0:
        image = (image > 127).astype(np.uint8) * 255  # the filter overshoots beyond black and white
    size = after[::-1]
    assert np.array_equal(lanczos(image, size, torch.device("cpu")), resize(image, size))


def test_a_gpu_without_room_leaves_the_resizing_to_the_cpu(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    fails = Mock(side_effect=torch.cuda.OutOfMemoryError("no room"))
    monkeypatch.setattr("loger_ros.stream.prepare.lanczos", fails)
    assert np.array_equal(resize(image, (20, 15), device=torch.device("cuda")), resize(image, (20, 15)))
    assert fails.called
    fails.side_effect = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        resize(image, (20, 15), device=torch.device("cuda"))


def test_images_are_resized_where_the_network_is(monkeypatch):
    shrink = Mock(side_effect=lambda image, size, device: lanczos(image, size, torch.device("cpu")))
    monkeypatch.setattr("loger_ros.stream.prepare.lanczos", shrink)
    gpu = torch.device("cuda")
    Preparation((28, 14), device=gpu)(np.zeros((30, 40, 3), np.uint8), (28, 14))
    assert shrink.call_args.args[2] == gpu
    made = Mock(wraps=Preparation)
    monkeypatch.setattr("loger_ros.stream.reconstructor.Preparation", made)
    model = FakeModel()
    Reconstructor(model, resolution=(28, 14))
    assert made.call_args.kwargs["device"] is model.device


def test_network_input_is_the_published_tensor():
    units = golden("units")
    image = Preparation((56, 42))(units["resize.src_uint8"].numpy(), (56, 42))
    tensor = network_input([image], torch.device("cpu"))
    assert tensor.shape == (1, 1, 3, 42, 56)
    assert torch.equal(tensor[0, 0], units["resize.tensor_56x42"])


def test_the_fast_filter_differs_as_little_as_it_says():
    rng = np.random.default_rng(0)
    for source, target in (((1080, 1920), (672, 378)), ((480, 640), (574, 434))):
        noise = rng.normal(size=(*source, 3)).astype(np.float32)
        smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
        image = smooth.astype(np.uint8)
        exact = resize(image, target).astype(int)
        fast = resize(image, target, "bicubic").astype(int)
        assert np.abs(exact - fast).max() <= 4
        assert np.abs(exact - fast).mean() <= 0.7


def test_images_of_network_size_pass_untouched_and_do_not_share_memory():
    image = np.random.default_rng(0).integers(0, 256, (28, 42, 3), dtype=np.uint8)
    kept = image.copy()
    prepare = Preparation(None)
    prepared = prepare(image, prepare.size_for(image))
    image[:] = 0  # a driver that reuses its buffer
    assert np.array_equal(prepared.numpy(), kept)


def test_the_first_image_decides_the_size():
    prepare = Preparation("auto")
    first, later = np.zeros((480, 640, 3), np.uint8), np.zeros((720, 1280, 3), np.uint8)
    size = prepare.size_for(first)
    assert size == (574, 434)
    assert prepare.size_for(later, size) == size
    assert prepare(later, size).shape == (434, 574, 3)


def test_intrinsics_follow_the_resize():
    """A point of the image plane lands on the same spot of the image, measured from its corners."""
    camera = Camera(640, 480, MATRIX)
    small = scaled(camera, (574, 434))
    for ray in ([0.1, -0.2, 1], [-0.6, 0.4, 1]):
        big_pixel = (camera.matrix @ ray)[:2] + 0.5
        small_pixel = (small.matrix @ ray)[:2] + 0.5
        assert np.allclose(small_pixel, big_pixel * [574 / 640, 434 / 480])
    assert (small.width, small.height) == (574, 434)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", (-0.25, 0.08, 0.001, -0.001, 0.0)),
        ("rational_polynomial", (-0.2, 0.05, 0.001, 0.0, 0.01, 0.01, 0.0, 0.0)),
        ("equidistant", (0.03, -0.01, 0.002, 0.0)),
        ("equidistant", (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_undistortion_puts_points_where_the_ideal_camera_sees_them(model, distortion):
    camera = Camera(640, 480, MATRIX, distortion, model)
    undistort = Preparation(camera=camera, resolution=(56, 42))._undistort
    rays = np.array([[x, y, 1.0] for x in (-0.5, -0.2, 0.1, 0.45) for y in (-0.35, 0.0, 0.3)])
    if model == "equidistant":
        seen, _ = cv2.fisheye.projectPoints(
            rays[:, None], np.zeros(3), np.zeros(3), MATRIX, np.array(distortion)
        )
    else:
        seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), MATRIX, np.array(distortion))
    image = np.zeros((480, 640, 3), np.uint8)
    for x, y in seen.reshape(-1, 2):
        cv2.circle(image, (round(x * 16), round(y * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    straight = undistort(image)
    inside = 0
    for x, y in (undistort.camera.matrix @ rays.T).T[:, :2]:
        if 5 < x < 634 and 5 < y < 474:
            patch = straight[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6, 0].astype(float)
            v, u = np.mgrid[-5:6, -5:6]
            assert abs((patch * u).sum() / patch.sum() + round(x) - x) < 0.6
            assert abs((patch * v).sum() / patch.sum() + round(y) - y) < 0.6
            inside += 1
    assert inside >= 8
    borders = undistort(np.full_like(image, 255)) == 0
    assert borders.mean() < 1e-4  # none; some pixels of the last row with the OpenCV of Ubuntu 22.04


def test_a_lens_with_a_coefficient_too_few_is_told():
    with pytest.raises(ValueError, match="coefficients, not 3"):
        Undistorter(Camera(8, 6, np.diag([5.0, 5.0, 1.0]), (0.1, 0.01, 0.001)))


def test_unusable_images_are_refused_with_the_cure():
    with pytest.raises(ValueError, match='"auto"'):
        Preparation(None).size_for(np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(ValueError, match="multiples of 14"):
        Preparation((640, 480))
    with pytest.raises(ValueError, match="resolution"):
        Preparation("large")
    with pytest.raises(ValueError, match="distortion model"):
        Preparation("auto", camera=Camera(640, 480, MATRIX, (0.1,), "spherical"))
    with pytest.raises(ValueError, match="camera info"):
        Preparation("auto", camera=Camera(640, 480, MATRIX, (0.1, 0, 0, 0)))(
            np.zeros((240, 320, 3), np.uint8), (574, 434)
        )
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "image"):
        with pytest.raises(ValueError, match="image"):
            check_image(wrong)
