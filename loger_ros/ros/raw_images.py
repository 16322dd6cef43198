"""Reads sensor_msgs/Image in place, from the bytes that DDS delivers.

rclpy copies an image twice to make a message object, each time into new memory. For 640x480 rgb8 this costs
several times what receiving the bytes does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from loger_ros.ros.images import LAYOUTS

# By the byte that states the encoding of what follows. The fields of an image align to 4 bytes at most, so
# the newer plain encoding (6, 7) equals the older one (0, 1).
BYTE_ORDERS = {0: ">", 1: "<", 6: ">", 7: "<"}
HEAD = 4  # bytes before the message; alignment counts from their end


@dataclass(frozen=True)
class Stamp:
    sec: int
    nanosec: int


@dataclass(frozen=True)
class Header:
    stamp: Stamp
    frame_id: str


@dataclass(frozen=True, eq=False)
class RawImage:
    """Has the fields of sensor_msgs/Image; ``data`` is a view of the received bytes."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def image_of(received: bytes) -> Any:
    """Return a RawImage, or an Image if the layout of the bytes is unknown or cv_bridge will be needed."""
    try:
        image = _read(received)
        if image.encoding in LAYOUTS:
            return image
    except (struct.error, KeyError, UnicodeDecodeError, IndexError):
        pass
    return deserialize_message(received, Image)


def _read(received: bytes) -> RawImage:
    order = BYTE_ORDERS[received[1]]
    sec, nanosec, length = struct.unpack_from(f"{order}iII", received, HEAD)
    frame_id, at = _text(received, HEAD + 12, length)
    height, width, length = struct.unpack_from(f"{order}III", received, at)
    encoding, at = _text(received, at + 12, length, align=False)
    is_bigendian = received[at]
    at = _aligned(at + 1)
    step, count = struct.unpack_from(f"{order}II", received, at)
    data = memoryview(received)[at + 8 : at + 8 + count]
    if len(data) < count:
        raise IndexError("the message is shorter than it says")
    return RawImage(Header(Stamp(sec, nanosec), frame_id), height, width, encoding, is_bigendian, step, data)


def _text(received: bytes, at: int, length: int, align: bool = True) -> tuple[str, int]:
    """Return a string that ends in a zero byte, and where the next value begins."""
    end = at + length
    if not 0 < length <= len(received) - at:
        raise IndexError("a text is longer than the message")
    return received[at : end - 1].decode(), _aligned(end) if align else end


def _aligned(at: int) -> int:
    return at + (HEAD - at) % 4
