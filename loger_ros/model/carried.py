"""How robots carried the cameras that a network was trained with."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LOWEST = 0.9  # times the camera's height above the base: the base is not below the ground
LEAST_HEIGHT = 0.01  # m above the base; a camera with less is at its origin, as far as numbers tell


@dataclass(frozen=True)
class Carried:
    """Smallest and largest value of each; None if unknown."""

    height: tuple[float, float] | None = None  # metres above the ground, which is then the unit of length
    pitch: tuple[float, float] | None = None  # degrees downwards
    forward: tuple[float, float] | None = None  # metres ahead of the point about which the robot turns

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Carried:
        known = {entry.name for entry in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"{unknown[0]} is not a mounting property; known: {', '.join(sorted(known))}")
        return cls(**{name: _range(name, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) for name, value in dataclasses.asdict(self).items() if value is not None}

    def unit_at(self, T_base_camera: np.ndarray | None) -> float | None:
        """Return the metres per unit of length, which are the height of the camera above its base.

        None: the unit is another one, or the mounting does not tell it. T_base_camera: None if not known.
        """
        if self.height is None or T_base_camera is None:
            return None
        above = float(T_base_camera[2, 3])
        return above if LEAST_HEIGHT <= above < math.inf else None

    def doubts(self, unit: float, T_base_camera: np.ndarray, in_use: bool = True) -> list[str]:
        """Return all doubts about a camera's mounting, as sentences.

        unit: 0 if it is automatic. in_use: whether the stream knows the camera, and thus its mounting.
        """
        height = unit or (self.unit_at(T_base_camera) if in_use else None)
        found = {
            "the camera is mounted differently than in training": self.unlike(height, T_base_camera),
            "lengths are probably not metres": self.doubtful(height, T_base_camera)
            if height is not None
            else self.unknown(T_base_camera, in_use),
        }
        return [f"{what}: {reason}" for what, reason in found.items() if reason]

    def unlike(self, height: float | None, T_base_camera: np.ndarray) -> str:
        """Return how a camera differs from those of the training, as a sentence; empty if it does not.

        height: above the ground; None if it is not known.
        """
        ahead = T_base_camera[:3, 2]
        down = math.degrees(math.asin(float(np.clip(-ahead[2], -1, 1))))
        forward = float(T_base_camera[:2, 3] @ ahead[:2]) / max(float(np.linalg.norm(ahead[:2])), 1e-6)
        found = (
            (self.height, height, "m above the ground (stream.unit)"),
            (self.pitch, down, "degrees down"),
            (self.forward, forward, "m ahead of the base"),
        )
        said = [
            f"it is {value:.3g} {what}, but the checkpoint was trained with {taught[0]:g} to {taught[1]:g}"
            for taught, value, what in found
            if taught is not None
            and value is not None
            and not taught[0] - _slack(taught) <= value <= taught[1] + _slack(taught)
        ]
        return "; ".join(said)

    def doubtful(self, height: float, T_base_camera: np.ndarray) -> str:
        """Return why the height above the ground, the unit of such a network, is probably wrong; else empty.

        It may be larger than the height above the base, which may be far above the ground.
        """
        above = float(T_base_camera[2, 3])
        if self.height is None or height >= LOWEST * above:
            return ""
        return (
            f"stream.unit says that the camera is {height:.3g} m above the ground, but it is {above:.3g} m "
            "above frames.base (or frames.level); set stream.unit (--unit) to its height above ground in "
            "metres"
        )

    def unknown(self, T_base_camera: np.ndarray, in_use: bool) -> str:
        """Return why the height above the ground, the unit of such a network, is not known; else empty."""
        if self.height is None:
            return ""
        reason = (
            f"the camera is {float(T_base_camera[2, 3]):.3g} m above frames.base (or frames.level), which "
            "says nothing about its height above the ground"
            if in_use
            else "the camera's mounting is not used, because camera_info is missing or unusable, or images "
            "are not undistorted (input.undistort, --no-undistort)"
        )
        return f"{reason}; set stream.unit (--unit) to the camera's height above ground in metres"


def _slack(taught: tuple[float, float]) -> float:
    """Return how far outside its range a value may be without a warning."""
    return 0.1 * (taught[1] - taught[0])


def _range(name: str, value: Any) -> tuple[float, float]:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max for v in value
    )
    if not numbers or len(value) != 2 or value[0] > value[1]:
        raise ValueError(f"{name} must be two numbers, the lower one first, got {value!r}")
    return float(value[0]), float(value[1])
