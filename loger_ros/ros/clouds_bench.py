"""``loger bench clouds``: points → PointCloud2, next to the usual way of doing it and to a bare copy.

The usual way fills a structured array field by field, makes an array of bytes of it and assigns that to the
message. All take turns in one run, so that a busy machine slows them alike.
"""

from __future__ import annotations

import array
import statistics
import time
from collections.abc import Callable

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2

from loger_ros.ros.clouds import cloud_message
from loger_ros.ros.messages import header

ROW = np.dtype(
    {
        "names": ["x", "y", "z", "b", "g", "r", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "u1", "u1", "u1", "<f4"],
        "offsets": [0, 4, 8, 12, 13, 14, 16],
        "itemsize": 20,
    }
)


def measure(count: int, rounds: int) -> str:
    """The report."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    confidence = rng.random(count, dtype=np.float32)
    head = header(0, "map")

    def ours() -> PointCloud2:
        return cloud_message(points, rgb, confidence, head)

    def usual() -> PointCloud2:
        rows = np.zeros(count, ROW)
        for i, axis in enumerate("xyz"):
            rows[axis] = points[:, i]
        for i, colour in enumerate("rgb"):
            rows[colour] = rgb[:, i]
        rows["confidence"] = confidence
        data = array.array("B")
        data.frombytes(rows.view(np.uint8).data)
        return PointCloud2(header=head, data=data)

    made = ours()
    assert made.data == usual().data, "the two ways do not make the same cloud"
    ready = np.frombuffer(made.data, np.uint8)
    ways = {"ours": ours, "usual": usual, "copy": ready.copy}
    times: dict[str, list[float]] = {name: [] for name in (*ways, "send")}
    for _ in range(rounds):
        for name, way in ways.items():
            times["send"].append(_seconds(lambda: serialize_message(made)))  # as a node does between clouds
            times[name].append(_seconds(way))
    middle = {name: statistics.median(taken) * 1e3 for name, taken in times.items()}
    return (
        f"clouds     {count} points of {made.point_step} bytes, {rounds} rounds in turn, medians: "
        f"cloud_message {middle['ours']:.1f} ms (at most {max(times['ours']) * 1e3:.1f}), usual way "
        f"{middle['usual']:.1f} ms, ratio {middle['ours'] / middle['usual']:.2f}; bare copy "
        f"{middle['copy']:.1f} ms, ratio {middle['ours'] / middle['copy']:.2f}; "
        f"serialising it for DDS takes another {middle['send']:.1f} ms"
    )


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    made = way()
    taken = time.perf_counter() - start
    del made
    return taken
