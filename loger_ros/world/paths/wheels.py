"""Wheel odometry as a real robot has it."""

from __future__ import annotations

import numpy as np


class WheelOdometry:
    """Dead reckoning of wheels whose size and base are not known exactly, and which slip."""

    def __init__(self, noise: float, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 2])
        self._noise = noise
        self._scale = 1 + noise * self._rng.standard_normal(2)  # of distance and of turning
        self._x = self._y = self._yaw = 0.0

    def roll(self, forward: float, turn: float) -> tuple[np.ndarray, tuple[float, float]]:
        """One step in metres and radians; returns the pose so far (4, 4) and the step as measured."""
        slip = 1 + self._noise * self._rng.standard_normal(2)
        forward, turn = forward * self._scale[0] * slip[0], turn * self._scale[1] * slip[1]
        self._x += forward * np.cos(self._yaw + turn / 2)
        self._y += forward * np.sin(self._yaw + turn / 2)
        self._yaw += turn
        cos, sin = np.cos(self._yaw), np.sin(self._yaw)
        pose = np.array([[cos, -sin, 0, self._x], [sin, cos, 0, self._y], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        return pose, (float(forward), float(turn))
