"""What a floor plan says: where one can go, where walls are, where it is lit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Area:
    """A convex area: any straight path inside it is free of walls."""

    low: np.ndarray  # (2,) the part where a camera may go
    high: np.ndarray
    room: int  # -1: a junction of corridors or streets


@dataclass(frozen=True)
class Side:
    """One face of a wall, seen from the free side of it: things stand against it and hang on it."""

    start: np.ndarray  # (2,)
    end: np.ndarray
    inward: np.ndarray  # (2,) unit vector into the free side
    height: float
    gaps: tuple[tuple[float, float], ...] = ()  # openings, metres from the start


@dataclass
class Layout:
    kind: str
    bounds: tuple[float, float, float, float]  # least x, y, greatest x, y
    ceiling: float | None  # metres; None: the sky
    areas: list[Area] = field(default_factory=list)
    links: dict[int, list[tuple[int, np.ndarray]]] = field(
        default_factory=dict
    )  # area → (area, points on the way)
    sides: list[Side] = field(default_factory=list)
    floors: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # free rectangles for furniture
    lamps: list[tuple[float, float]] = field(default_factory=list)

    def link(self, a: int, b: int, points: np.ndarray) -> None:
        self.links.setdefault(a, []).append((b, points))
        self.links.setdefault(b, []).append((a, points[::-1]))
