"""How a camera sits on its robot while its images are taken: looked up once, and again after a reset."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from loger_ros.config import StreamConfig
from loger_ros.model.carried import Carried
from loger_ros.ros.transforms import Mounting

STRAIGHT_UP = 0.95  # upward part of the optical axis: within 18 degrees of straight up


class Mounted:
    """The mounting of one camera. Any thread may ask."""

    def __init__(self, look_up: Callable[[str], Mounting | None]) -> None:
        """look_up: returns the mounting of a camera frame, or None while it is not known."""
        self._look_up = look_up
        self._lock = threading.Lock()
        self._frame = ""  # whose mounting it is
        self._stale = True  # at the start and after a reset, since the camera may have been moved
        self.now: Mounting | None = None  # as last known

    def find(self, camera_frame: str) -> bool:
        """Whether the mounting of that frame is known. If so, it is the one that counts from now on."""
        with self._lock:
            if self._stale or camera_frame != self._frame:
                found = self._look_up(camera_frame)
                self._stale = found is None
                if found is not None:
                    self.now, self._frame = found, camera_frame
            return not self._stale

    def forget(self) -> None:
        """Have the next image look it up again. Until that succeeds, ``now`` stays the old one."""
        with self._lock:
            self._stale = True

    def doubts(
        self, stream: StreamConfig, taught: Carried | None, from_tf: bool, in_use: bool = True
    ) -> list[str]:
        """Reasons to doubt it: the current transforms, or how cameras were mounted in training.

        in_use: whether the stream knows it.
        """
        with self._lock:
            mounting, frame, stale = self.now, self._frame, self._stale
        if mounting is None or stale:
            return []
        now = self._look_up(frame)
        if now is not None and not all(map(np.allclose, now, mounting)):
            return [
                "the camera's transform has changed since the stream's start; call ~/reset to use the new one"
            ]
        if from_tf and mounting.T_level_camera[2, 2] > STRAIGHT_UP:
            return [
                f"the camera looks straight up: {frame!r} may not be an optical frame (x right, y "
                "down, z forward). Set frames.camera to the optical frame"
            ]
        if taught is None:
            return []
        return taught.doubts(stream.unit, mounting.T_level_camera, in_use)
