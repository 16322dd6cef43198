"""Depth images: what a turned view says, as the camera would have seen it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from loger_ros.geometry import exp_rotation, mount
from loger_ros.ros.depth_images import as_taken, turned_back
from loger_ros.stream.lens import turn_between
from loger_ros.stream.view import View
from loger_ros.types import Camera


def test_depth_images_are_those_of_the_camera_also_where_the_network_looks_further_down() -> None:
    """A wall straight ahead of the camera has one depth, in every pixel that the turned view saw."""
    mounted = mount((0, 0, 0.5), (0, 0.05, 0))
    source = Camera(80, 60, np.array([[50.0, 0, 39.5], [0, 50, 29.5], [0, 0, 1]]), T_base_camera=mounted)
    view = View(source, (56, 42), 70, pitch=12)
    turn = turn_between(view.camera, mounted)
    assert turn is not None
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(12 - np.degrees(0.05))
    v, u = np.indices((42, 56))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(view.camera.matrix).T @ turn
    height = (2 * rays / rays[..., 2:])[..., 1]  # where each pixel of the view meets a wall 2 m ahead
    seen = turned_back(height, view.camera, turn, np.nan)
    expected = 2 * (v - 20.5) / view.camera.matrix[1, 1]
    known = np.isfinite(seen)
    assert 0.7 < known.mean() < 0.95
    assert not known[:4].any(), "the view looks further down than the camera"
    assert np.abs(seen - expected)[known].max() < 2 / view.camera.matrix[1, 1]
    assert turn_between(view.camera, view.camera.T_base_camera) is None
    assert turned_back(height, view.camera, None, np.nan) is height


@pytest.mark.parametrize("roll", [90.0, 180.0, -90.0])
def test_depth_images_of_a_camera_on_its_side_are_as_it_lies(roll: float) -> None:
    """Nothing of what the network said is lost, and each pixel is where the camera would have seen it."""
    upright = mount((0, 0, 0.5), (0, 0.2, 0))
    lying = upright.copy()
    lying[:3, :3] = lying[:3, :3] @ exp_rotation(np.array([0, 0, np.radians(roll)]))
    source = Camera(80, 60, np.array([[50.0, 0, 39.5], [0, 50, 29.5], [0, 0, 1]]), T_base_camera=lying)
    view = View(source, (56, 42), 70, pitch=np.degrees(0.2))
    turn = turn_between(view.camera, lying)
    depth = np.random.default_rng(0).uniform(1, 9, (42, 56)).astype(np.float32)
    seen = turned_back(depth, view.camera, turn, np.nan)
    np.testing.assert_array_equal(seen, np.rot90(depth, round(roll / 90)))
    camera = as_taken(view.camera, turn)
    assert (camera.height, camera.width) == seen.shape
    assert camera.matrix[0, 2] == pytest.approx((camera.width - 1) / 2)
