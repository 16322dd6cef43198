"""Where things can still be placed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np


@dataclass
class Ground:
    """Where things can still be placed: away from the path and from one another."""

    path: np.ndarray  # (M, 2)
    clearance: float  # metres between the path and anything
    taken: list[tuple[float, float, float]] = field(default_factory=list)  # discs x, y, radius

    def free(self, x: float, y: float, half: tuple[float, float], yaw: float) -> bool:
        radius = math.hypot(*half)
        if any(math.hypot(x - a, y - b) < radius * 0.8 + r * 0.8 for a, b, r in self.taken):
            return False
        offset = self.path - (x, y)
        offset = offset[np.abs(offset).max(1) < radius + self.clearance]
        if len(offset) == 0:
            return True
        cos, sin = math.cos(yaw), math.sin(yaw)
        local = np.abs(
            np.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], 1)
        )
        outside = np.maximum(local - half, 0)
        return bool((np.hypot(outside[:, 0], outside[:, 1]) >= self.clearance).all())

    def take(self, x: float, y: float, half: tuple[float, float]) -> None:
        self.taken.append((x, y, math.hypot(*half)))


Choice = TypeVar("Choice")


def pick(rng: np.random.Generator, choice: Mapping[Choice, float]) -> Choice:
    """Return one of the keys at random, by weight."""
    weights = np.array(list(choice.values()), float)
    return list(choice)[rng.choice(len(weights), p=weights / weights.sum())]
