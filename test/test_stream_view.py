from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fake_model import FakeModel

from loger_ros.evaluation.seen_depth import SeenDepth
from loger_ros.geometry import exp_rotation
from loger_ros.stream import Reconstructor
from loger_ros.stream.prepare import Preparation, resize
from loger_ros.stream.view import View
from loger_ros.types import Camera, Frame
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.paths.trajectories import Mount


@pytest.mark.parametrize("degrees", [60, 84, 100])
def test_a_view_is_what_another_camera_sees(degrees):
    """The same place by two cameras: one brought to the other's field of view looks like the other."""
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
    """A stream that turns its images gives the same world as one that is given the turned images."""
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
    """Points that the view sees correctly have, in the axes of the camera, the depth of the recording."""
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
    """A usual calibration of a wide lens, whose polynomial turns back at the edge of its valid range."""
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
    """A depth camera of the TUM sequences: outside the image, its polynomial goes to the limit of int16."""
    lens = 0.2624, -0.9531, -0.0054, 0.0026, 1.1633
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
    source = Camera(640, 480, matrix, lens, T_base_camera=Mount(0.5, pitch).transform())
    view = View(source, (96, 72), 70, pitch=10)
    assert not np.allclose(view.turn, np.eye(3))
    shown = view(np.full((480, 640, 3), 255, np.uint8))[..., 0] > 127
    assert 0.2 < shown.mean() < 0.7


@pytest.mark.parametrize("size", [(8, 6), (16, 12), (28, 20), (56, 42)])
def test_a_view_looks_at_its_part_of_the_image_alone(size):
    """What surrounds that part does not matter."""
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
    """Another mounting from the fourth frame on; the network sees the same for both, and says the same."""
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
