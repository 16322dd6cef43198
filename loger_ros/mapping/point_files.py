"""Point clouds on disk: binary PLY and PCD, with colour and confidence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from loger_ros.files import appearing_whole
from loger_ros.mapping.cloud import Cloud

MOST_HEADER = 64 << 10  # bytes
MOST_POINTS = 200_000_000

_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "<i2"),
    **dict.fromkeys(("ushort", "uint16"), "<u2"),
    **dict.fromkeys(("int", "int32"), "<i4"),
    **dict.fromkeys(("uint", "uint32"), "<u4"),
    **dict.fromkeys(("float", "float32"), "<f4"),
    **dict.fromkeys(("double", "float64"), "<f8"),
}
_PLY_ROW = np.dtype(
    [(axis, "<f4") for axis in "xyz"]
    + [(colour, "u1") for colour in ("red", "green", "blue")]
    + [("confidence", "<f4")]
)
_PCD_ROW = np.dtype([(name, "<f4") for name in "xyz"] + [("rgb", "<u4"), ("confidence", "<f4")])


def write_ply(path: str | Path, cloud: Cloud) -> None:
    cloud = cloud.cpu()
    rows = np.empty(len(cloud), _PLY_ROW)
    for i, axis in enumerate("xyz"):
        rows[axis] = cloud.points[:, i]
    for i, colour in enumerate(("red", "green", "blue")):
        rows[colour] = cloud.colours[:, i]
    rows["confidence"] = cloud.confidence
    kinds = {"f": "float", "u": "uchar"}
    properties = [f"property {kinds[_PLY_ROW[name].kind]} {name}" for name in _PLY_ROW.names or ()]
    head = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *properties,
        "end_header",
    ]
    _write(path, "\n".join([*head, ""]), rows)


def read_ply(path: str | Path) -> Cloud:
    """Binary little-endian, vertices first; colour and confidence may be missing (white, 1)."""
    lines, start = _header(path, "end_header")
    if lines[:1] != ["ply"] or "format binary_little_endian 1.0" not in lines:
        raise ValueError(f"{path} is not a binary little-endian PLY file")
    count, fields = -1, []
    for line in lines:
        words = line.split()
        if words[:1] == ["element"] and count >= 0:
            break  # faces and the like follow the vertices
        if words[:1] == ["element"] and words[1:2] != ["vertex"]:
            raise ValueError(f"{path}: {line!r} comes before the vertices, which must be first")
        if words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isdecimal():
                raise ValueError(f"{path}: {line!r} does not say how many vertices there are")
            count = int(words[2])
        elif words[:1] == ["property"] and count >= 0:
            if len(words) != 3 or words[1] not in _PLY_TYPES:
                raise ValueError(f"{path}: vertices with {line!r} cannot be read")
            fields.append((words[2], _PLY_TYPES[words[1]]))
    rows = _rows(path, start, count, np.dtype(fields))
    if {"red", "green", "blue"} <= set(rows.dtype.names or ()):
        colours = np.stack([rows[colour] for colour in ("red", "green", "blue")], 1)
    else:
        colours = np.full((len(rows), 3), 255)
    return _cloud(rows, colours)


def write_pcd(path: str | Path, cloud: Cloud) -> None:
    cloud = cloud.cpu()
    rows = np.empty(len(cloud), _PCD_ROW)
    for i, axis in enumerate("xyz"):
        rows[axis] = cloud.points[:, i]
    red, green, blue = cloud.colours.numpy().astype(np.uint32).T
    rows["rgb"] = red << 16 | green << 8 | blue
    rows["confidence"] = cloud.confidence
    head = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS x y z rgb confidence",
        "SIZE 4 4 4 4 4",
        "TYPE F F F U F",
        "COUNT 1 1 1 1 1",
        f"WIDTH {len(rows)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(rows)}",
        "DATA binary",
    ]
    _write(path, "\n".join([*head, ""]), rows)


def read_pcd(path: str | Path) -> Cloud:
    """Binary, one value per field, rgb packed. Colour and confidence may be missing (white, 1)."""
    lines, start = _header(path, "DATA binary")
    head = {words[0]: words[1:] for words in map(str.split, lines) if words}
    try:
        count = int(head["POINTS"][0])
        layout = list(zip(head["FIELDS"], head["TYPE"], head["SIZE"], strict=True))
        dtype = np.dtype([(name, f"<{kind.lower()}{size}") for name, kind, size in layout])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{path} has a PCD header that cannot be read: {error!r}") from error
    if any(number != "1" for number in head.get("COUNT", [])):
        raise ValueError(f"{path} has fields with several values, which cannot be read")
    rows = _rows(path, start, count, dtype)
    colours = np.full((len(rows), 3), 255)
    if "rgb" in (dtype.names or ()) and dtype["rgb"].itemsize == 4:
        packed = np.ascontiguousarray(rows["rgb"]).view(np.uint32)
        colours = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 1)
    return _cloud(rows, colours)


def _cloud(rows: np.ndarray, colours: np.ndarray) -> Cloud:
    points = np.stack([rows[axis] for axis in "xyz"], 1).astype(np.float32)
    known = "confidence" in (rows.dtype.names or ())
    confidence = np.array(rows["confidence"] if known else np.ones(len(rows)), np.float32)
    return Cloud(
        torch.from_numpy(points), torch.from_numpy(colours.astype(np.uint8)), torch.from_numpy(confidence)
    )


def _header(path: str | Path, last: str) -> tuple[list[str], int]:
    """Return the lines up to ``last``, and where the data begins."""
    with open(path, "rb") as file:
        start = file.read(MOST_HEADER)
    end = start.find(f"\n{last}\n".encode())
    if end < 0:
        raise ValueError(f"{path} has no line {last!r} within its first {MOST_HEADER} bytes")
    return start[:end].decode("ascii", "replace").splitlines(), end + len(last) + 2


def _rows(path: str | Path, start: int, count: int, dtype: np.dtype) -> np.ndarray:
    if not {"x", "y", "z"} <= set(dtype.names or ()):
        raise ValueError(f"{path} has no points: the fields are {dtype.names}")
    room = (os.path.getsize(path) - start) // dtype.itemsize
    if not 0 <= count <= min(room, MOST_POINTS):
        raise ValueError(f"{path} announces {count} points, but has data for {room} (at most {MOST_POINTS})")
    return np.fromfile(path, dtype, count, offset=start)


def _write(path: str | Path, head: str, rows: np.ndarray) -> None:
    """Write whole or not at all: a full disk leaves an older file of that name as it was."""
    with appearing_whole(Path(path)) as file:
        file.write(head.encode())
        file.write(rows.tobytes())
