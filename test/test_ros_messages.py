"""Messages on their way out: bytes that read back as what was put in, and an end in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loger_ros.geometry import exp_rotation, quaternion, transform
from loger_ros.ros.odometry import Motion

SECOND = 1_000_000_000


def random_pose(rng: np.random.Generator, size: float = 1.0) -> np.ndarray:
    return transform(exp_rotation(rng.normal(size=3) * size), rng.normal(size=3) * size)


@pytest.mark.parametrize("odom", ["odom", "front/odom", "o", "seven77"])  # lengths that align differently
def test_packed_messages_read_back_as_what_was_put_in(odom: str) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from nav_msgs.msg import Odometry
    from rclpy.serialization import deserialize_message
    from tf2_msgs.msg import TFMessage

    from loger_ros.ros.packed_messages import PackedOdometry, PackedPose, PackedTransforms

    def same(said: Any, pose: np.ndarray) -> bool:
        moves = hasattr(said, "translation")
        place = said.translation if moves else said.position
        turn = said.rotation if moves else said.orientation
        numbers = [place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w]
        return np.allclose(numbers, [*pose[:3, 3], *quaternion(pose[:3, :3])], atol=1e-12)

    rng = np.random.default_rng(0)
    odometry, pose, transforms = (
        PackedOdometry(odom, "base"),
        PackedPose(odom),
        PackedTransforms([("map", odom), (odom, "base")]),
    )
    for stamp in (1_700_000_000_123_456_789, 5):  # the second after the first: nothing of it is left
        motion = Motion(
            stamp, random_pose(rng), random_pose(rng), rng.random((6, 6)), rng.random(6), rng.random((6, 6))
        )
        sec_nanosec = divmod(stamp, SECOND)
        said = deserialize_message(odometry.of(motion), Odometry)
        assert (said.header.stamp.sec, said.header.stamp.nanosec) == sec_nanosec
        assert (said.header.frame_id, said.child_frame_id) == (odom, "base")
        assert same(said.pose.pose, motion.T_odom_base)
        assert np.array_equal(said.pose.covariance, motion.covariance.ravel())
        linear, angular = said.twist.twist.linear, said.twist.twist.angular
        assert [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z] == motion.twist.tolist()
        assert np.array_equal(said.twist.covariance, motion.twist_covariance.ravel())
        said = deserialize_message(
            pose.of(stamp, motion.T_map_odom, motion.covariance), PoseWithCovarianceStamped
        )
        assert (said.header.stamp.sec, said.header.stamp.nanosec) == sec_nanosec
        assert said.header.frame_id == odom
        assert same(said.pose.pose, motion.T_map_odom)
        assert np.array_equal(said.pose.covariance, motion.covariance.ravel())
        poses = [motion.T_map_odom, motion.T_odom_base]
        said = deserialize_message(transforms.of(stamp, poses), TFMessage)
        assert [(t.header.frame_id, t.child_frame_id) for t in said.transforms] == [
            ("map", odom),
            (odom, "base"),
        ]
        for transform_said, wanted in zip(said.transforms, poses, strict=True):
            assert (transform_said.header.stamp.sec, transform_said.header.stamp.nanosec) == sec_nanosec
            assert same(transform_said.transform, wanted)


def test_what_a_signal_catches_on_its_way_to_a_topic_is_no_error(ros_domain: int) -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
    from std_msgs.msg import Header

    from loger_ros.ros.config import NodeConfig
    from loger_ros.ros.outputs import Outputs

    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("outputs", context=context)
    outputs = Outputs(node, "", NodeConfig(), True, lambda topic, stamp: None)
    publisher = node.create_publisher(Header, "some", 1)
    with pytest.raises(TypeError):
        outputs.send(publisher, "no message")
    context.shutdown()
    with pytest.raises(RuntimeError):
        publisher.publish(Header())
    outputs.send(publisher, Header())
    node.destroy_node()
