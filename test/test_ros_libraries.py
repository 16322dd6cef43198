"""ROS's own libraries say the same as we do, where they are installed: PyPI has none of them."""

from __future__ import annotations

import numpy as np
import pytest
from posed_updates import random_pose
from test_ros_images import GREYS, MOST, PLAIN, message

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from loger_ros import inventory
from loger_ros.geometry import BODY_FROM_OPTICAL, inverse, mount, quaternion, rotation_of
from loger_ros.ros.clouds import cloud_message, packed_colours
from loger_ros.ros.images import rgb_of
from loger_ros.ros.messages import header
from loger_ros.ros.motion_messages import transform_message
from loger_ros.ros.transforms import StaticTransforms, pose_of


def test_sensor_msgs_py_reads_our_clouds() -> None:
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="needs sensor_msgs_py")
    rng = np.random.default_rng(0)
    points, confidence = rng.random((100, 3), dtype=np.float32), rng.random(100, dtype=np.float32)
    colours = rng.integers(0, 256, (100, 3), dtype=np.uint8)
    rows = point_cloud2.read_points(cloud_message(points, colours, confidence, header(7, "map")))
    assert np.array_equal(np.stack([rows[axis] for axis in "xyz"], 1), points)
    assert np.array_equal(rows["confidence"], confidence)
    assert np.array_equal(np.ascontiguousarray(rows["rgb"]).view(np.uint32), packed_colours(colours))


def test_cv_bridge_reads_the_same_pictures() -> None:
    found = inventory.numpy()
    if "cv_bridge works" not in found.value:  # one built for another NumPy may end the process
        pytest.skip(found.value)
    from cv_bridge import CvBridge

    for encoding in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8"):
        said = message((PLAIN | GREYS)[encoding], encoding)
        assert np.array_equal(CvBridge().imgmsg_to_cv2(said, "rgb8"), rgb_of(said, MOST)), encoding


def test_tf_transformations_turns_the_same_way() -> None:
    try:
        import tf_transformations
    except Exception as error:  # what it stands on may be of another NumPy
        pytest.skip(f"tf_transformations cannot be imported: {error}")
    rng = np.random.default_rng(0)
    for _ in range(20):
        pose = random_pose(rng)
        theirs = np.array(tf_transformations.quaternion_from_matrix(pose))
        assert np.allclose(theirs * np.sign(theirs[3]), quaternion(pose[:3, :3]))
        assert np.allclose(tf_transformations.quaternion_matrix(theirs)[:3, :3], rotation_of(theirs))
        rpy = tuple(rng.uniform(-1.5, 1.5, 3))
        body = mount((0.0, 0.0, 0.0), rpy) @ inverse(BODY_FROM_OPTICAL)
        assert np.allclose(tf_transformations.euler_matrix(*rpy)[:3, :3], body[:3, :3])


def test_tf2_finds_the_same_way_through_the_tree() -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="needs tf2_ros")
    rng = np.random.default_rng(0)
    edges = [
        transform_message(0, parent, child, random_pose(rng))
        for parent, child in (("root", "mast"), ("mast", "camera"), ("root", "base"))
    ]
    tree, buffer = StaticTransforms(), tf2_ros.Buffer()
    tree.hear(TFMessage(transforms=edges))
    for edge in edges:
        buffer.set_transform_static(edge, "test")
    theirs = buffer.lookup_transform("base", "camera", Time()).transform
    found = pose_of(theirs.translation, theirs.rotation)
    assert found is not None
    assert np.allclose(found, tree.between("base", "camera"))
