from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from fake_model import FakeModel
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.evaluation.seen_depth import SeenDepth
from loger_ros.geometry import exp_rotation
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
from loger_ros.stream.view import View
from loger_ros.types import Camera, Frame
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.ways.trajectories import Mount

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
    """Here on the CPU; whatever the device, they are whole numbers."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*before, 3)).astype(np.uint8)
    if seed % 3 == 0:
        image = (image > 127).astype(np.uint8) * 255  # beyond black and white, where the filter overshoots
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
    """A point of the picture's plane lands on the same spot of the picture, seen from its corners."""
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


@pytest.mark.parametrize("degrees", [60, 84, 100])
def test_a_view_is_what_another_camera_sees(degrees):
    """The same place by two cameras: one brought to the other's angle looks like the other."""
    spec = SequenceSpec("rooms", frames=1, width=224, height=168, hfov=degrees)
    wanted = SequenceSpec("rooms", frames=1, width=56, height=42, hfov=84)
    sequence, other = generate(spec, 3), generate(replace(wanted, width=224, height=168), 3)
    lens = sequence.camera
    camera = Camera(224, 168, np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]]))
    view = View(camera, (56, 42), 84)
    made = view(sequence.render().rgb[0].numpy()).astype(float)
    true = other.render().rgb[0].numpy().reshape(42, 4, 56, 4, 3).mean((1, 3))
    x = (np.arange(56) - 27.5) / view.camera.matrix[0, 0]
    y = (np.arange(42) - 20.5) / view.camera.matrix[1, 1]
    inner = np.tan(np.radians(degrees / 2)) * (1 - 2 / 56)
    seen = (np.abs(y)[:, None] < 0.75 * inner) & (np.abs(x) < inner)
    assert np.abs(made - true)[seen].mean() < 3
    beyond = (np.abs(y)[:, None] > 0.8 * inner / (1 - 2 / 56)) & (np.abs(x) < 9)
    assert not made[beyond].any()


def test_the_view_of_a_distorted_lens_is_straight():
    """Chessboard corners taken by a lens with distortion lie where the ideal camera has them."""
    matrix = np.array([[200.0, 0, 159.5], [0, 200.0, 119.5], [0, 0, 1]])
    camera = Camera(320, 240, matrix, (-0.25, 0.08, 0.001, -0.001, 0.0))
    view = View(camera, (280, 210), 70)
    point = np.array([[0.3, -0.2, 1.0]])
    pixel = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, np.array(camera.distortion))[0][0, 0]
    y, x = np.mgrid[:240, :320]
    image = (255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 18)).astype(np.uint8)
    made = view(np.repeat(image[..., None], 3, 2))[..., 0].astype(float)
    rows, columns = np.mgrid[:210, :280]
    centre = np.array([(made * columns).sum(), (made * rows).sum()]) / made.sum()
    ideal = view.camera.matrix @ point[0]
    np.testing.assert_allclose(centre, ideal[:2], atol=0.15)


def test_a_camera_that_is_not_known_is_told():
    stream = Reconstructor(FakeModel(), resolution=(28, 28), field_of_view=84)
    assert "camera_info" in stream.events.recent[-1].message
    camera = Camera(56, 56, np.array([[40.0, 0, 27.5], [0, 40.0, 27.5], [0, 0, 1]]))
    known = Reconstructor(FakeModel(), resolution=(28, 28), field_of_view=84, camera=camera)
    assert not known.events.counts


def robot_camera(pitch, hfov=84.0, seed=3, size=(224, 168)):
    spec = SequenceSpec("rooms", frames=1, width=size[0], height=size[1], hfov=hfov, camera_height=0.6)
    sequence = generate(replace(spec, camera_pitch=pitch), seed)
    mounted = sequence.mount.transform()
    return sequence, Camera(*size, sequence.camera.matrix(), T_base_camera=mounted)


@pytest.mark.parametrize("pitch", [0, 17])
def test_a_view_looks_as_far_down_as_the_network_was_taught(pitch):
    """The same place by two cameras: one turned to the other's pitch looks like the other."""
    tilted, camera = robot_camera(pitch)
    level, _ = robot_camera(10)
    view = View(camera, (56, 42), 84, pitch=10)
    seen = tilted.render()
    made = view(seen.rgb[0].numpy()).astype(float)
    true = level.render().rgb[0].numpy().reshape(42, 4, 56, 4, 3).mean((1, 3))
    depth = view.depth(seen.depth[0].numpy())
    true_depth = level.render().depth[0].numpy().reshape(42, 4, 56, 4).mean((1, 3))
    there = (
        cv2.erode(np.isfinite(depth).astype(np.uint8), np.ones((3, 3))) > 0
    )  # away from the edge of the view
    assert 0.7 < there.mean() < 0.95
    assert np.abs(made - true)[there].mean() < 5
    assert np.median(np.abs(depth / true_depth - 1)[there]) < 0.02
    unturned = View(replace(camera, T_base_camera=None), (56, 42), 84)(seen.rgb[0].numpy())
    assert np.abs(unturned - true)[there].mean() > 15
    edge = made[-2:] if pitch < 10 else made[:2]
    assert not edge.any()


@pytest.mark.parametrize("roll", [90, 180, -90])
def test_a_camera_on_its_side_or_its_head_is_seen_upright(roll):
    _, camera = robot_camera(10)
    upright = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    camera = replace(
        camera, width=224, height=224, matrix=np.array([[120.0, 0, 111.5], [0, 120, 111.5], [0, 0, 1]])
    )
    turned = camera.T_base_camera.copy()
    turned[:3, :3] = turned[:3, :3] @ exp_rotation(np.array([0, 0, np.radians(roll)]))
    images = np.ascontiguousarray(np.rot90(upright, roll // 90))
    lying = View(replace(camera, T_base_camera=turned), (56, 42), 84, pitch=10)(images)
    standing = View(camera, (56, 42), 84, pitch=10)(upright)
    np.testing.assert_array_equal(lying, standing)


def test_poses_and_points_are_those_of_the_camera_not_of_the_turned_view():
    """A stream of turned images gives the same world as one that is given the turned images."""
    _, camera = robot_camera(16, size=(56, 42))
    view = View(camera, (28, 20), 84, pitch=10)
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 255, (42, 56, 3), np.uint8) for _ in range(7)]
    settings = {"chunk_size": 4, "overlap": 1, "alignment": "se3"}
    stream = Reconstructor(
        FakeModel(), **settings, resolution=(28, 20), field_of_view=84, pitch=10, camera=camera
    )
    given = Reconstructor(FakeModel(), **settings)
    for i, image in enumerate(images):
        stream.push(Frame(i + 1, image))
        given.push(Frame(i + 1, view(image)))
    stream.flush()
    given.flush()
    turn = np.eye(4)
    turn[:3, :3] = view.turn
    assert 0.1 < abs(turn[1, 2]) < 0.11  # six degrees
    mine, theirs = stream.result(), given.result()
    expected = turn.T @ np.asarray(theirs.camera_poses) @ turn
    np.testing.assert_allclose(np.asarray(mine.camera_poses), expected, atol=1e-5)
    turned = np.asarray(theirs.local_points) @ view.turn
    np.testing.assert_allclose(np.asarray(mine.local_points), turned, atol=1e-5)


@pytest.mark.parametrize("pitch", [2, 17])
def test_true_depth_is_found_where_a_turned_view_looks(pitch):
    """Points that the view sees truly, in the axes of the camera, have the depth that the recording has."""
    sequence, camera = robot_camera(pitch)
    view = View(camera, (56, 42), 84, pitch=10)
    depth = sequence.render().depth[0].numpy()
    v, u = np.indices((42, 56))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(view.camera.matrix).T
    along = view.depth(depth)
    in_view = np.where(np.isfinite(along), along, np.nan)[..., None] * rays
    points = in_view @ view.turn
    seen = SeenDepth(camera, view.camera)
    true = seen.at(depth, (42, 56))
    there = np.isfinite(true) & np.isfinite(points).all(-1)
    assert there.mean() > 0.7
    assert np.median(np.abs(points[there][:, 2] / true[there] - 1)) < 0.001
    directions = seen.rays((42, 56))[there]
    np.testing.assert_allclose(points[there][:, :2] / points[there][:, 2:], directions, atol=1e-9)


def test_what_lies_beyond_the_formula_of_a_lens_is_black_and_not_seen_twice():
    """A usual calibration of a wide lens, whose polynomial turns back at the edge of what it was made for."""
    source = Camera(
        640, 480, np.array([[320.0, 0, 319.5], [0, 320.0, 239.5], [0, 0, 1]]), (-0.37, 0.2, 0, 0, -0.07)
    )
    mounted = Mount(0.5, 38).transform()
    view = View(replace(source, T_base_camera=mounted), (56, 42), 84, pitch=8)
    turned = np.indices((42, 56))[::-1].reshape(2, -1).T
    rays = np.c_[turned, np.ones(len(turned))] @ np.linalg.inv(view.camera.matrix).T @ view.turn
    places = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), source.matrix, np.array(source.distortion))[0][
        :, 0
    ]
    angle = np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])
    inside = ((places > 0) & (places < [639, 479])).all(1).reshape(42, 56)
    shown = view(np.full((480, 640, 3), 255, np.uint8))[..., 0] > 127
    assert not shown[~inside & ~cv2.dilate(inside.astype(np.uint8), np.ones((3, 3))).astype(bool)].any()
    ghosts = inside & (
        angle.reshape(42, 56) > np.radians(55)
    )  # the formula's radius falls from 54 degrees on
    assert ghosts.mean() > 0.05
    assert not shown[ghosts].any()
    assert shown[inside & (angle.reshape(42, 56) < np.radians(45))].mean() > 0.95


@pytest.mark.parametrize("pitch", [-28, -22, 30, 46])
def test_a_lens_whose_formula_leads_far_out_is_still_seen(pitch):
    """A depth camera of the TUM sequences: beside the image its polynomial goes to the end of int16."""
    lens = 0.2624, -0.9531, -0.0054, 0.0026, 1.1633
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
    source = Camera(640, 480, matrix, lens, T_base_camera=Mount(0.5, pitch).transform())
    view = View(source, (96, 72), 70, pitch=10)
    assert not np.allclose(view.turn, np.eye(3))
    shown = view(np.full((480, 640, 3), 255, np.uint8))[..., 0] > 127
    assert 0.2 < shown.mean() < 0.7


@pytest.mark.parametrize("size", [(8, 6), (16, 12), (28, 20), (56, 42)])
def test_a_view_looks_at_its_part_of_the_image_alone(size):
    """What is around it may be there or not."""
    image = np.random.default_rng(0).integers(0, 256, (168, 224, 3), dtype=np.uint8)
    camera = Camera(224, 168, np.array([[150.0, 0, 111.5], [0, 150.0, 83.5], [0, 0, 1]]))
    wider = Camera(320, 232, np.array([[150.0, 0, 143.5], [0, 150.0, 115.5], [0, 0, 1]]))
    around = np.full((232, 320, 3), 77, np.uint8)
    around[32:200, 32:256] = image
    np.testing.assert_array_equal(View(camera, size, 60)(image), View(wider, size, 60)(around))


def test_a_view_behind_the_camera_has_no_depth():
    _, camera = robot_camera(45)
    view = View(replace(camera, distortion=()), (56, 56), 125, pitch=10)
    depth = view.depth(np.full((168, 224), 2.0, np.float32))
    assert (depth > 0).all()
    assert np.isinf(depth).any()


def test_it_is_known_where_the_camera_of_a_turned_view_sits():
    _, camera = robot_camera(17)
    prepare = Preparation((56, 42), patch=14, camera=camera, field_of_view=84, pitch=10)
    view = View(camera, (56, 42), 84, pitch=10)
    np.testing.assert_allclose(prepare.T_base_view, view.camera.T_base_camera)
    np.testing.assert_allclose(prepare.T_base_view[:3, 3], camera.T_base_camera[:3, 3])
    assert np.array_equal(Preparation((56, 42), patch=14, camera=camera).T_base_view, camera.T_base_camera)


def test_a_camera_that_looks_elsewhere_is_not_turned():
    for T_base_camera in (robot_camera(10)[1].T_base_camera, robot_camera(58)[1].T_base_camera, None):
        camera = Camera(56, 42, np.array([[30.0, 0, 27.5], [0, 30.0, 20.5], [0, 0, 1]]))
        view = View(replace(camera, T_base_camera=T_base_camera), (56, 42), 84, pitch=10)
        np.testing.assert_allclose(view.turn, np.eye(3), atol=1e-12)
        prepared = Preparation(
            (56, 42), camera=replace(camera, T_base_camera=T_base_camera), field_of_view=84, pitch=10
        )
        assert prepared.turn is None
    untaught = View(robot_camera(20)[1], (56, 42), 84)
    np.testing.assert_array_equal(untaught.turn, np.eye(3))


def test_a_chunk_of_two_cameras_stays_in_the_axes_of_its_cameras():
    """The camera becomes unknown within a chunk: the first frames are turned back, the others not."""
    _, camera = robot_camera(16, size=(56, 42))
    settings = {"chunk_size": 4, "overlap": 1, "resolution": (28, 20), "field_of_view": 84, "pitch": 10}
    view = View(camera, (28, 20), 84, pitch=10)
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 255, (42, 56, 3), np.uint8) for _ in range(4)]
    stream = Reconstructor(FakeModel(), **settings, camera=camera)
    given = Reconstructor(FakeModel(), chunk_size=4, overlap=1)
    for i, image in enumerate(images):
        if i == 2:
            stream.use_camera(None)
        stream.push(Frame(i + 1, image))
        given.push(Frame(i + 1, view(image) if i < 2 else resize(image, (28, 20))))
    turn = np.eye(4)
    turn[:3, :3] = view.turn
    said = np.asarray(given.result().camera_poses)
    expected = np.concatenate([turn.T @ said[:2] @ turn, turn.T @ said[2:]])
    np.testing.assert_allclose(np.asarray(stream.result().camera_poses), expected, atol=1e-5)


@pytest.mark.parametrize("alignment", ["none", "se3"])
def test_all_chunks_of_a_segment_stay_in_the_axes_of_its_first_camera(alignment):
    """Another mounting from the fourth frame on; the network sees the same of both, and says the same."""
    cameras = [robot_camera(pitch, size=(56, 42))[1] for pitch in (16, 4)]
    settings = {"chunk_size": 4, "overlap": 1, "resolution": (28, 20), "alignment": alignment}
    image = np.full((42, 56, 3), 90, np.uint8)
    stream = Reconstructor(StandsStill(), **settings, field_of_view=40, pitch=10, camera=cameras[0])
    for i in range(10):
        if i == 4:
            stream.use_camera(cameras[1])
        stream.push(Frame(i + 1, image))
    stream.flush()
    forward = np.asarray(stream.result().camera_poses)[:, :3, 2]
    turned = np.degrees(np.arccos(np.clip(forward @ forward[0], -1, 1)))
    np.testing.assert_allclose(turned[:4], 0, atol=0.05)
    np.testing.assert_allclose(turned[4:], 12, atol=0.05)


class StandsStill(FakeModel):
    def step(self, *args, **kwargs):
        prediction, memory = super().step(*args, **kwargs)
        poses = torch.eye(4).expand_as(prediction.camera_poses)
        return replace(prediction, camera_poses=poses), memory
