"""Clouds and depth images as messages, read back as RViz and PCL read them."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from loger_ros.ros import clouds
from loger_ros.ros.bench.clouds import measure
from loger_ros.ros.clouds import cloud_message
from loger_ros.ros.depth_images import confidence_message, depth_message, fitted_camera
from loger_ros.ros.messages import camera_info_message, header
from loger_ros.types import Camera

HEAD = header(1_700_000_000_123_456_789, "map")


def sent(message: object) -> object:
    """What arrives at the other side."""
    return deserialize_message(serialize_message(message), type(message))


def test_every_value_of_a_cloud_arrives() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1000, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (1000, 3), dtype=np.uint8)
    confidence = rng.random(1000, dtype=np.float32)
    message = sent(cloud_message(points, rgb, confidence, HEAD))
    assert isinstance(message, PointCloud2)
    assert message.header == HEAD
    assert (message.height, message.width, message.row_step) == (1, 1000, 1000 * message.point_step)
    layout = {field.name: field for field in message.fields}
    assert list(layout) == ["x", "y", "z", "rgb", "confidence"]
    assert all(field.datatype == PointField.FLOAT32 and field.count == 1 for field in message.fields)
    order = ">" if message.is_bigendian else "<"

    def read(row: int, name: str, kind: str) -> float:
        start = row * message.point_step + layout[name].offset
        return struct.unpack_from(order + kind, bytes(message.data[start : start + 4]))[0]

    for row in (0, 1, 517, 999):
        assert [read(row, axis, "f") for axis in "xyz"] == points[row].tolist()
        packed = read(row, "rgb", "I")  # RViz: 0x00RRGGBB, whatever type the field has
        assert [packed >> 16 & 255, packed >> 8 & 255, packed & 255] == rgb[row].tolist()
        assert packed >> 24 == 0
        assert read(row, "confidence", "f") == confidence[row]


def test_no_colour_is_nan() -> None:
    """Readers that skip points with NaN would lose white walls."""
    rgb = np.array([[255, 255, 255], [255, 128, 0], [127, 255, 255]], np.uint8)
    message = cloud_message(np.zeros((3, 3), np.float32), rgb, np.ones(3, np.float32), HEAD)
    assert np.isfinite(np.frombuffer(message.data, np.float32)).all()


def test_views_of_larger_arrays_make_the_same_cloud() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(3, 50)).astype(np.float32)
    rgb = rng.integers(0, 256, (100, 3), dtype=np.uint8)[::2]
    confidence = rng.random(50, dtype=np.float32)
    strided = cloud_message(points.T, rgb, confidence, HEAD)
    assert strided.data == cloud_message(points.T.copy(), rgb.copy(), confidence, HEAD).data


def test_every_block_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    points, confidence = rng.random((25, 3), dtype=np.float32), rng.random(25, dtype=np.float32)
    rgb = rng.integers(0, 256, (25, 3), dtype=np.uint8)
    whole = cloud_message(points, rgb, confidence, HEAD)
    monkeypatch.setattr(clouds, "BLOCK", 10)
    assert cloud_message(points, rgb, confidence, HEAD).data == whole.data


def test_an_empty_cloud_is_a_cloud() -> None:
    message = sent(
        cloud_message(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32), HEAD)
    )
    assert (message.width, len(message.data)) == (0, 0)


def test_a_message_that_is_taken_again_holds_the_new_cloud_alone() -> None:
    rng = np.random.default_rng(0)
    kept = PointCloud2()
    memory = kept.data
    for count in (500, 20, 0, 700, 699):
        points, confidence = rng.random((count, 3), dtype=np.float32), rng.random(count, dtype=np.float32)
        colours = rng.integers(0, 256, (count, 3), dtype=np.uint8)
        head = header(7, f"of {count}")
        assert cloud_message(points, colours, confidence, head, kept) is kept
        assert kept.data is memory
        assert kept == cloud_message(points, colours, confidence, head)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        cloud_message(np.zeros((4, 3), np.float32), np.zeros((3, 3), np.uint8), np.zeros(4, np.float32), HEAD)


def test_depth_arrives_and_what_is_none_is_nan() -> None:
    depth = np.array([[1.5, 2.0, np.inf], [0.0, -1.0, np.nan]], np.float32)
    message = sent(depth_message(depth, HEAD))
    assert isinstance(message, Image)
    assert (message.encoding, message.height, message.width, message.step) == ("32FC1", 2, 3, 12)
    read = np.frombuffer(message.data, np.float32).reshape(2, 3)
    assert read[0, :2].tolist() == [1.5, 2.0]
    assert np.isnan(read[0, 2])
    assert np.isnan(read[1]).all()


def test_confidence_arrives() -> None:
    confidence = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    message = sent(confidence_message(confidence, HEAD))
    assert message.encoding == "32FC1"
    assert np.array_equal(np.frombuffer(message.data, np.float32).reshape(2, 3), confidence)


def test_camera_info_of_the_network_image() -> None:
    matrix = np.array([[50.0, 0, 27.5], [0, 51.0, 20.5], [0, 0, 1]])
    message = sent(camera_info_message(HEAD, Camera(56, 42, matrix)))
    assert isinstance(message, CameraInfo)
    assert (message.width, message.height, message.distortion_model) == (56, 42, "plumb_bob")
    assert np.array_equal(message.k, matrix.reshape(-1))
    assert np.array_equal(np.reshape(message.p, (3, 4))[:, :3], matrix)
    assert not any(message.d)


def seen_by(matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    depth = 2 + np.sin(u / 7) + v / height
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T
    return (rays * depth[..., None]).astype(np.float32)


def test_a_camera_is_found_from_what_it_saw() -> None:
    matrix = np.array([[50.0, 0, 25.5], [0, 53.0, 22.5], [0, 0, 1]])
    points = seen_by(matrix, 56, 42)
    points[:5, :9] = np.nan
    camera = fitted_camera(points)
    assert camera is not None
    assert (camera.width, camera.height) == (56, 42)
    assert np.allclose(camera.matrix, matrix, atol=1e-3)


@pytest.mark.parametrize(
    "points", [np.full((42, 56, 3), np.nan), np.zeros((42, 56, 3)), np.ones((42, 56, 3))]
)
def test_points_that_tell_nothing_give_no_camera(points: np.ndarray) -> None:
    assert fitted_camera(points.astype(np.float32)) is None


def test_the_benchmark_makes_the_same_cloud_in_both_ways() -> None:
    report = measure(1000, rounds=2)
    assert re.match(r"clouds +1000 points of 20 bytes, 2 rounds .* ratio \d", report)
