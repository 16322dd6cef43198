"""True depth in a bag, from a topic that is aligned to the images, as depth cameras publish it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from loger_ros.evaluation.association import TOLERANCE
from loger_ros.evaluation.sources.base import MOST_PIXELS, SourceError
from loger_ros.events import EventLog

MOST_NEAR = 16  # depth images near one stamp that are kept
KINDS = {"16UC1": ("u2", 1000.0), "mono16": ("u2", 1000.0), "32FC1": ("f4", 1.0)}  # steps per metre


class BagDepth:
    """Depth images, to be asked for in the order of their stamps; an earlier stamp restarts the reading."""

    def __init__(
        self, opened: Callable[[], AbstractContextManager[Any]], topic: str, problems: EventLog
    ) -> None:
        self._opened, self._topic, self._problems = opened, topic, problems
        self._messages: Iterator[Any] = iter(())
        self._near: deque[tuple[int, Any]] = deque(maxlen=MOST_NEAR)
        self._asked: int | None = None

    def at(self, stamp: int) -> np.ndarray | None:
        """Return (H, W) metres, NaN where unknown; None if no depth image is near that stamp."""
        if self._asked is None or stamp < self._asked:
            self._near.clear()
            self._messages = self._read()
        self._asked = stamp
        while self._near and self._near[0][0] < stamp - TOLERANCE:
            self._near.popleft()
        while not self._near or self._near[-1][0] < stamp + TOLERANCE:
            message = next(self._messages, None)
            if message is None:
                break
            seen = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            if seen >= stamp - TOLERANCE:
                self._near.append((seen, message))
        away, nearest = min(((abs(s - stamp), i) for i, (s, _) in enumerate(self._near)), default=(None, 0))
        if away is None or away > TOLERANCE:
            return None
        try:
            return metres_of(self._near[nearest][1])
        except ValueError as error:
            self._problems.add("unreadable_depth", stamp, f"{error}; the frame has no true depth")
            return None

    def _read(self) -> Iterator[Any]:
        with self._opened() as reader:
            connections = [connection for connection in reader.connections if connection.topic == self._topic]
            messages = reader.messages(connections)
            while True:
                try:
                    connection, _, data = next(messages)
                except StopIteration:
                    return
                except Exception as error:  # a broken file can fail in any way
                    text = f"{self._topic} cannot be read to its end ({error}); the rest has no true depth"
                    self._problems.add("unreadable_depth", 0, text)
                    return
                try:
                    message = reader.deserialize(data, connection.msgtype)
                except Exception as error:  # so can a damaged message
                    text = f"a message of {self._topic} is damaged ({error}); it is left out"
                    self._problems.add("unreadable_depth", 0, text)
                else:
                    yield message


def refuse_unaligned(topic: str, first: Any, camera_frame: str) -> None:
    """Refuse depth as the depth camera sees it; aligned depth images have the frame of the colour images."""
    metres_of(first)
    frame = first.header.frame_id
    if frame != camera_frame:
        raise SourceError(
            f"the depth on {topic} has the frame {frame!r}, but the images have {camera_frame!r}: give the "
            "depth topic that is aligned to the images (for a RealSense: aligned_depth_to_color/image_raw)"
        )


def metres_of(message: Any) -> np.ndarray:
    """Return a sensor_msgs/Image of a depth camera as (H, W) float32 metres, NaN where unknown."""
    if message.encoding not in KINDS:
        raise SourceError(
            f"depth with the encoding {message.encoding!r} is not supported: use 16UC1 in millimetres or "
            "32FC1 in metres"
        )
    kind, scale = KINDS[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    width, height, step = message.width, message.height, message.step
    whole = 0 < width * height <= MOST_PIXELS and step >= width * dtype.itemsize
    if not whole or len(message.data) < step * (height - 1) + width * dtype.itemsize:
        raise SourceError(f"a depth image of {width}x{height} with {len(message.data)} bytes cannot be read")
    data = np.ascontiguousarray(message.data)
    steps: np.ndarray = np.ndarray((height, width), dtype, data, strides=(step, dtype.itemsize))
    metres = steps.astype(np.float32) / np.float32(scale)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)
