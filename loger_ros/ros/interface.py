"""The names, types and QoS of the ROS interface, in one place. They are part of the product.

A test compares them with the running node. Relative names follow the node's namespace and, if there are
several cameras, the camera's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.qos import QoSProfile

NODE = "loger"
PATIENCE = 30.0  # s that the current frame may take when the node is deactivated
LISTENING = "active, listening to"  # begins a line of the log once images are received: a player may start
EMPTY_MAP = "the map is empty"  # begins the answer of save_map in that case
FRAMES = ("map", "odom", "base_link")  # the TF tree, root first


@dataclass(frozen=True)
class Topic:
    """One topic that the node publishes or subscribes to."""

    name: str
    type: str
    depth: int
    reliable: bool = True
    transient_local: bool = False  # latched: late subscribers get the last one


# Clouds and images are reliable with a small depth: large best-effort messages are the first that DDS drops.
# What comes once per image comes in bursts, a chunk at a time.
ODOMETRY = Topic("odometry", "nav_msgs/msg/Odometry", depth=100)
TF = Topic("/tf", "tf2_msgs/msg/TFMessage", depth=100)
POSE = Topic("pose", "geometry_msgs/msg/PoseWithCovarianceStamped", depth=100)
PATH = Topic("path", "nav_msgs/msg/Path", depth=1)
POINTS = Topic("points", "sensor_msgs/msg/PointCloud2", depth=2)
MAP_POINTS = Topic("map_points", "sensor_msgs/msg/PointCloud2", depth=1, transient_local=True)
DEPTH_IMAGE = Topic("depth/image", "sensor_msgs/msg/Image", depth=2)
DEPTH_INFO = Topic("depth/camera_info", "sensor_msgs/msg/CameraInfo", depth=2)
CONFIDENCE_IMAGE = Topic("confidence/image", "sensor_msgs/msg/Image", depth=2)
TAKEN = Topic("taken", "builtin_interfaces/msg/Time", depth=100)  # of the image that the network has finished
DIAGNOSTICS = Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", depth=10)

PUBLISHED = (
    ODOMETRY,
    TF,
    POSE,
    PATH,
    POINTS,
    MAP_POINTS,
    DEPTH_IMAGE,
    DEPTH_INFO,
    CONFIDENCE_IMAGE,
    TAKEN,
    DIAGNOSTICS,
)


# What the node subscribes to. The camera's topics may be best-effort; input.reliable asks for more.
IMAGE = Topic("image", "sensor_msgs/msg/Image", depth=10, reliable=False)
COMPRESSED_IMAGE = Topic("image/compressed", "sensor_msgs/msg/CompressedImage", depth=10, reliable=False)
CAMERA_INFO = Topic("camera_info", "sensor_msgs/msg/CameraInfo", depth=5, reliable=False)
TF_STATIC = Topic("/tf_static", "tf2_msgs/msg/TFMessage", depth=100, transient_local=True)
INITIAL_POSE = Topic("initialpose", "geometry_msgs/msg/PoseWithCovarianceStamped", depth=1)

SUBSCRIBED = (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO, TF_STATIC, INITIAL_POSE)
SERVICES = ("~/reset", "~/pause", "~/resume", "~/save_map", "~/save_trajectory")  # std_srvs/srv/Trigger


def message_packages() -> list[str]:
    """The message packages that the interface is made of."""
    return sorted({topic.type.split("/")[0] for topic in (*PUBLISHED, *SUBSCRIBED)})


def qos_profile(topic: Topic) -> QoSProfile:
    """The topic's QoS for rclpy."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    return QoSProfile(
        depth=topic.depth,
        reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.transient_local else DurabilityPolicy.VOLATILE,
    )
