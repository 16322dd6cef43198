"""A camera for measurements: sends a few pictures again and again at a steady rate, at almost no cost."""

from __future__ import annotations

import sys

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.ros.process import running_ros
from loger_ros.types import Camera

PICTURES = 30
FRAME = "camera"
ANGLE = 75.0  # horizontal field of view in degrees


def pictures(width: int, height: int) -> list[np.ndarray]:
    """Return images of random blocks, all different."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (PICTURES, height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return [np.ascontiguousarray(picture.repeat(16, 0).repeat(16, 1)[:height, :width]) for picture in coarse]


def lens(width: int, height: int) -> Camera:
    focal = width / 2 / np.tan(np.deg2rad(ANGLE) / 2)
    matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return Camera(width, height, matrix)


class SteadyCamera(Node):
    def __init__(self) -> None:
        super().__init__("steady_camera")
        width: int = self.declare_parameter("width", 640).value
        height: int = self.declare_parameter("height", 480).value
        rate: float = self.declare_parameter("rate", 30.0).value
        self._messages = [
            image_message(header(0, FRAME), picture, "rgb8") for picture in pictures(width, height)
        ]
        self._publisher = self.create_publisher(Image, "image", 5)
        self._info = camera_info_message(header(0, FRAME), lens(width, height))
        self._info_publisher = self.create_publisher(CameraInfo, "camera_info", 5)
        self._sent = 0
        self.create_timer(1 / rate, self._send)

    def _send(self) -> None:
        message = self._messages[self._sent % PICTURES]
        message.header.stamp = self._info.header.stamp = self.get_clock().now().to_msg()
        self._info_publisher.publish(self._info)
        self._publisher.publish(message)
        self._sent += 1


def main(args: list[str] | None = None) -> int:
    with running_ros(args):
        executor = SingleThreadedExecutor()
        executor.add_node(SteadyCamera())
        executor.spin()
    return 0


if __name__ == "__main__":
    sys.exit(main())
