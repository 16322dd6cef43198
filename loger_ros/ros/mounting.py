"""How a camera sits on its robot while its images are taken: looked up once, and anew after a reset."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from loger_ros.config import StreamConfig
from loger_ros.model.carried import Carried
from loger_ros.ros.transforms import Mounting

STRAIGHT_UP = 0.95  # of the optical axis, upwards: 18 degrees


class Mounted:
    """Any thread may ask."""

    def __init__(self, look_up: Callable[[str], Mounting | None]) -> None:
        """look_up: of a camera frame, None while it is not known."""
        self._look_up = look_up
        self._lock = threading.Lock()
        self._frame = ""  # that the mounting is of
        self._stale = True  # at the start, and after a reset: the camera may have been mounted anew
        self.now: Mounting | None = None  # as last known

    def find(self, camera_frame: str) -> bool:
        """Is it known? From now on that of this frame counts."""
        with self._lock:
            if self._stale or camera_frame != self._frame:
                found = self._look_up(camera_frame)
                self._stale = found is None
                if found is not None:
                    self.now, self._frame = found, camera_frame
            return not self._stale

    def forget(self) -> None:
        """The next image asks anew; until it is told, the old one is all that is known."""
        with self._lock:
            self._stale = True

    def doubts(self, stream: StreamConfig, taught: Carried | None, from_tf: bool) -> list[str]:
        """What speaks against it: the transforms of now, or the network's lengths and turns."""
        with self._lock:
            mounting, frame, stale = self.now, self._frame, self._stale
        if mounting is None or stale:
            return []
        now = self._look_up(frame)
        if now is not None and not all(map(np.allclose, now, mounting)):
            return ["the transform of the camera is not that of the stream's start: it counts after ~/reset"]
        if from_tf and mounting.T_level_camera[2, 2] > STRAIGHT_UP:
            return [
                f"the camera looks straight up: is {frame!r} an optical frame (x right, y "
                "down, z ahead)? Name the right one in frames.camera"
            ]
        if taught is None:
            return []
        return taught.doubts(stream.unit, mounting.T_level_camera, chosen=stream.unit != StreamConfig.unit)
