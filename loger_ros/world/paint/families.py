"""Families of procedural textures. A member is painted from its name alone, and belongs to one split.

Training and validation use different members of the same families. The test split has members, and a few
whole families, that neither of them uses.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FIRST_MEMBERS = {"train": 0, "test": 100, "validation": 200}  # from where a split's members are numbered
SPLITS = tuple(FIRST_MEMBERS)

# (generator, n) → (n, n, 3), 0..1, row 0 at the bottom
Painter = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Family:
    paint: Painter
    role: str
    members: int = 4
    splits: tuple[str, ...] = SPLITS


FAMILIES: dict[str, Family] = {}


def family(role: str, members: int = 4, splits: tuple[str, ...] = SPLITS) -> Callable[[Painter], Painter]:
    def register(paint: Painter) -> Painter:
        FAMILIES[paint.__name__] = Family(paint, role, members, splits)
        return paint

    return register


def paint(name: str, size: int) -> np.ndarray:
    """(size, size, 3) uint8."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    image = FAMILIES[name.split(".")[0]].paint(rng, size)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
