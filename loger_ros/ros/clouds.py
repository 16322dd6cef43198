"""Makes PointCloud2 from points, fast: a million in under 20 ms (``loger bench clouds``)."""

from __future__ import annotations

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

FIELDS = ("x", "y", "z", "rgb", "confidence")  # float32 each, in this order
STEP = 4 * len(FIELDS)  # bytes per point
BLOCK = 32_768  # points that stay in the processor's cache while their columns are written


def cloud_message(
    points: np.ndarray,
    rgb: np.ndarray,
    confidence: np.ndarray,
    header: Header,
    message: PointCloud2 | None = None,
) -> PointCloud2:
    """points (M, 3) float32, rgb (M, 3) uint8, confidence (M,) float32.

    message: one of ours to reuse, because new memory costs more than filling it.
    ``rgb`` is packed as 0x00RRGGBB into the bits of a float32, as PCL and RViz expect it.
    """
    count = len(points)
    if points.shape != (count, 3) or rgb.shape != (count, 3) or confidence.shape != (count,):
        raise ValueError(
            f"points {points.shape}, rgb {rgb.shape} and confidence {confidence.shape} do not belong together"
        )
    message = message or PointCloud2()
    message.header, message.height, message.width, message.is_dense = header, 1, count, True
    data = message.data  # grown and filled in place: whatever is assigned to `message.data` is copied
    if not data:
        data.append(0)
        data *= STEP * count
    elif len(data) < STEP * count:
        data.frombytes(bytes(STEP * count - len(data)))
    else:
        del data[STEP * count :]
    rows = np.frombuffer(data, np.float32).reshape(count, len(FIELDS))
    for start in range(0, count, BLOCK):
        _fill(
            rows[start : start + BLOCK], *(each[start : start + BLOCK] for each in (points, rgb, confidence))
        )
    message.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(FIELDS)
    ]
    message.is_bigendian = sys.byteorder == "big"
    message.point_step = STEP
    message.row_step = STEP * count
    return message


def _fill(rows: np.ndarray, points: np.ndarray, rgb: np.ndarray, confidence: np.ndarray) -> None:
    for axis in range(3):  # column by column is faster than one 2-D copy
        rows[:, axis] = points[:, axis]
    rows.view(np.uint32)[:, 3] = packed_colours(rgb)
    rows[:, 4] = confidence


def packed_colours(rgb: np.ndarray) -> np.ndarray:
    """(M, 3) uint8 → (M,) uint32 0x00RRGGBB. The highest byte is 0; otherwise some colours would be NaN."""
    packed = np.zeros((len(rgb), 4), np.uint8)
    for colour in range(3):
        packed[:, 2 - colour if sys.byteorder == "little" else 1 + colour] = rgb[:, colour]
    return packed.view(np.uint32)[:, 0]
