"""Camera-only odometry and mapping for ROS 2 with a feed-forward network that remembers."""

__version__ = "0.1.0"
