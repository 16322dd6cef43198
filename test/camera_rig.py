"""One camera's stream of the node, on a network whose motion is known, without a process around it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel

pytest.importorskip("rclpy", reason="needs ROS 2")

from loger_ros.config import MapConfig
from loger_ros.events import EventLog
from loger_ros.ros.camera_stream import CameraStream
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.statistics import Statistics
from loger_ros.ros.transforms import Mounting
from loger_ros.types import Camera, Frame

LENS = Camera(8, 6, np.array([[5.0, 0, 3.5], [0, 5, 2.5], [0, 0, 1]]))
SHORT = {"chunk_size": 2, "overlap": 1, "resolution": "8x6"}


def camera_stream(**others: Any) -> Any:
    """With a network whose motion is known, and nobody who listens."""
    silent = {
        name: lambda *_, **__: None
        for name in ("forget_path", "motion", "pose", "path", "pictures", "settings_changed", "taken")
    }
    values: dict[str, Any] = {
        "config": NodeConfig(map=MapConfig(max_voxels=16)),
        "outputs": SimpleNamespace(**silent, points_wanted=False, path_due=False, map_due=lambda: False),
        "journal": None,
        "mounting": lambda frame: Mounting(np.eye(4), np.eye(4)),
        "too_late": lambda stamp: False,
        "left_behind": lambda stamp: False,
        "now": lambda: 0,
        **others,
    }
    config, outputs = values.pop("config"), values.pop("outputs")
    events = EventLog(lambda message: None)
    return CameraStream("", config, FakeModel(), events, Statistics(), outputs, wake=lambda: None, **values)


def frame(number: int, size: tuple[int, int] = (8, 6)) -> Frame:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Frame(number * 100_000_000, pixels)


def run(camera: CameraStream, *numbers: int, size: tuple[int, int] = (8, 6)) -> dict[str, int]:
    """→ what happened so far."""
    for number in numbers:
        camera.queue.put(frame(number, size))
        camera.step()
    return dict(camera.events.counts)
