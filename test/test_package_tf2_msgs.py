"""tf2_msgs, which we make ourselves where ROS 2 comes from PyPI, against an independent implementation."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
typesys = pytest.importorskip("rosbags.typesys", reason="rosbags is the independent implementation")

import rclpy  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

NAME = "tf2_msgs/msg/TFMessage"
OFFICIAL = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"


@pytest.fixture(scope="module")
def independent() -> object:
    return typesys.get_typestore(typesys.Stores.ROS2_JAZZY)


def message() -> TFMessage:
    transform = TransformStamped(child_frame_id="base_link")
    transform.header.frame_id = "odom"
    transform.header.stamp.sec, transform.header.stamp.nanosec = 1_700_000_000, 123_456_789
    transform.transform.translation.y = -2.5
    return TFMessage(transforms=[transform, TransformStamped(child_frame_id="camera")])


def test_the_independent_hash_is_the_official_one(independent: object) -> None:
    assert independent.hash_rihs01(NAME) == OFFICIAL


def test_the_running_type_has_the_official_hash(ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("hashes", context=context)
    try:
        node.create_publisher(TFMessage, "/tf", 1)
        (info,) = node.get_publishers_info_by_topic("/tf")
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    if not hasattr(info, "topic_type_hash"):
        pytest.skip("this ROS 2 is older than type hashes")
    assert str(info.topic_type_hash) == OFFICIAL


def test_what_we_write_the_other_reads(independent: object) -> None:
    read = independent.deserialize_cdr(serialize_message(message()), NAME)
    first, second = read.transforms
    assert (first.header.frame_id, first.child_frame_id) == ("odom", "base_link")
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert first.transform.translation.y == -2.5
    assert second.child_frame_id == "camera"


def test_what_the_other_writes_we_read(independent: object) -> None:
    theirs = independent.deserialize_cdr(serialize_message(message()), NAME)
    again = deserialize_message(bytes(independent.serialize_cdr(theirs, NAME)), TFMessage)
    assert again == message()
