"""``loger bench clouds``: from points and maps to PointCloud2, compared with the usual way and a bare copy.

The usual way fills a structured array field by field, turns it into an array of bytes and assigns that to the
message. All take turns in one run, so that a busy machine slows them down alike.
"""

from __future__ import annotations

import array
import math
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2

from loger_ros.config import MapConfig
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.voxel_map import VoxelMap
from loger_ros.ros.clouds import cloud_message
from loger_ros.ros.messages import header
from loger_ros.ros.outputs import placed

ROW = np.dtype(
    {
        "names": ["x", "y", "z", "b", "g", "r", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "u1", "u1", "u1", "<f4"],
        "offsets": [0, 4, 8, 12, 13, 14, 16],
        "itemsize": 20,
    }
)


def measure(count: int, rounds: int) -> str:
    """Return the report for points."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    confidence = rng.random(count, dtype=np.float32)
    head = header(0, "map")

    kept = PointCloud2()

    def ours() -> PointCloud2:
        return cloud_message(points, rgb, confidence, head)

    def again() -> PointCloud2:
        return cloud_message(points, rgb, confidence, head, kept)

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
    ways = {"ours": ours, "again": again, "usual": usual, "copy": ready.copy}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ways, "send")}
    for _ in range(rounds):
        for name, way in ways.items():
            times["send"].append(_taken(lambda: serialize_message(made)))  # as a node does between clouds
            times[name].append(_taken(way))
    clock, processor = ({name: median(t[i] for t in taken) for name, taken in times.items()} for i in (0, 1))
    spread, spread_again = ([taken[0] for taken in times[name]] for name in ("ours", "again"))
    return (
        f"clouds     {count} points of {made.point_step} bytes, {rounds} rounds in turn, medians by the "
        f"clock (and of processor time): cloud_message {clock['ours']:.1f} ms ({processor['ours']:.1f}), "
        f"{min(spread):.1f} to {max(spread):.1f} by the clock; "
        f"reusing the memory of the previous message, as the node does, {clock['again']:.1f} ms "
        f"({processor['again']:.1f}), {min(spread_again):.1f} to {max(spread_again):.1f}; "
        "the usual way "
        f"{clock['usual']:.1f} ms ({processor['usual']:.1f}), ratio {clock['ours'] / clock['usual']:.2f} "
        f"({processor['ours'] / processor['usual']:.2f}); bare copy {clock['copy']:.1f} ms "
        f"({processor['copy']:.1f}); serialising it for DDS takes another {clock['send']:.1f} ms "
        f"({processor['send']:.1f})"
    )


def measure_map(count: int, rounds: int) -> str:
    """Return the report for a map, as the node sends it."""
    voxels = VoxelMap(MapConfig(max_voxels=max(count, 16), voxel_size=1.0))
    edge = 2 * math.ceil(count ** (1 / 3))  # so that few points share a voxel
    generator = torch.Generator().manual_seed(0)
    while len(voxels) < 0.8 * count:  # before it has to drop any
        points = torch.rand(count // 10 + 1, 3, generator=generator) * edge
        colours = torch.full(points.shape, 128, dtype=torch.uint8)
        voxels.insert(Cloud(points, colours, torch.ones(len(points))), np.eye(4))
    kept, head = PointCloud2(), header(0, "map")

    def send() -> PointCloud2:
        cloud = placed(voxels.cloud(), np.eye(4)).cpu()
        return cloud_message(
            cloud.points.numpy(), cloud.colours.numpy(), cloud.confidence.numpy(), head, kept
        )

    taken = [_taken(send) for _ in range(rounds)]
    clock, processor = (median(each[i] for each in taken) for i in (0, 1))
    return (
        f"map        {len(voxels)} voxels of the map to a PointCloud2, {rounds} rounds, medians by the "
        f"clock (and of processor time): {clock:.1f} ms ({processor:.1f})"
    )


def _taken(way: Callable[[], object]) -> tuple[float, float]:
    """Return ms by the clock and ms of processor time, which a busy machine affects less."""
    clock, processor = time.perf_counter(), time.thread_time()
    made = way()
    taken = (time.perf_counter() - clock) * 1e3, (time.thread_time() - processor) * 1e3
    del made
    return taken
