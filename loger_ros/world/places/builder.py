"""Collects shapes while a place is built; light that depends only on a face's direction is in the tint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loger_ros.world.paint.textures import by_role
from loger_ros.world.scene import FACES, SHAPES, Shapes

Vector = Sequence[float]  # three numbers
STILL = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Skin:
    texture: int
    size: float | None = None  # metres per repeat; None: once over the face
    tint: Vector = (1.0, 1.0, 1.0)
    whole: bool = False  # round the number of repeats, so that windows are not cut


@dataclass
class Builder:
    rng: np.random.Generator
    split: str
    sun: np.ndarray  # (3,) unit vector towards the light
    ambient: float
    rows: dict[str, list[tuple]] = field(default_factory=lambda: {name: [] for name in SHAPES})

    def __post_init__(self) -> None:
        self.roles = by_role(self.split)

    def skin(self, role: str, size: float | None = None, vary: float = 0.12, whole: bool = False) -> Skin:
        """Return a random texture of that role, slightly tinted at random."""
        texture = int(self.rng.choice(self.roles[role]))
        tint = 1 + self.rng.uniform(-vary, vary) + self.rng.uniform(-vary / 2, vary / 2, 3)
        return Skin(texture, size, tuple(tint), whole)

    def box(
        self,
        centre: Vector,
        half: Vector,
        skin: Skin,
        yaw: float = 0.0,
        faces: Mapping[int, Skin] | None = None,
        sweep: tuple[float, float, float, float] = STILL,
    ) -> None:
        self._add("box", centre, half, skin, yaw, faces or {}, sweep)

    def span(self, low: Vector, high: Vector, skin: Skin, faces: Mapping[int, Skin] | None = None) -> None:
        """An upright box from corner to corner."""
        centre = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        self.box(centre, half, skin, 0.0, faces)

    def cylinder(
        self, centre: Vector, half: Vector, skin: Skin, sweep: tuple[float, float, float, float] = STILL
    ) -> None:
        self._add("cylinder", centre, half, skin, 0.0, {}, sweep)

    def ellipsoid(
        self, centre: Vector, half: Vector, skin: Skin, sweep: tuple[float, float, float, float] = STILL
    ) -> None:
        self._add("ellipsoid", centre, half, skin, 0.0, {}, sweep)

    def shapes(self) -> dict[str, Shapes]:
        return {name: _stack(rows) for name, rows in self.rows.items()}

    def _add(self, kind, centre, half, skin, yaw, faces, sweep) -> None:
        if min(half) <= 0:
            raise ValueError(f"a {kind} needs a size, got half sizes {half}")
        skins = [faces.get(face, skin) for face in range(FACES)]
        across, up = _face_sizes(kind, half)
        repeat, offset = np.ones((FACES, 2)), np.zeros((FACES, 2))
        for face, worn in enumerate(skins):
            if worn.size is not None:
                repeat[face] = (across[face] / worn.size, up[face] / worn.size)
                offset[face] = 0.0 if worn.whole else self.rng.random(2)
                if worn.whole:
                    repeat[face] = np.maximum(1, np.round(repeat[face]))
        tint = np.array([worn.tint for worn in skins], float)
        if kind == "box":
            cos, sin = np.cos(yaw), np.sin(yaw)
            normals = np.array(
                [[-cos, -sin, 0], [cos, sin, 0], [sin, -cos, 0], [-sin, cos, 0], [0, 0, -1], [0, 0, 1]]
            )
            facing = np.clip(normals @ self.sun, 0, None)
            tint = tint * (self.ambient + (1 - self.ambient) * facing)[:, None]
        self.rows[kind].append(
            (centre, half, yaw, [worn.texture for worn in skins], repeat, offset, tint, sweep)
        )


def _face_sizes(kind: str, half: Vector) -> tuple[np.ndarray, np.ndarray]:
    """Metres along u and v of each face."""
    x, y, z = (2 * value for value in half)
    if kind != "box":
        y_side = np.pi * (x + y) / 2
        return np.array([y_side] * 4 + [x, x]), np.array([z] * 4 + [y, y])
    return np.array([y, y, x, x, x, x]), np.array([z, z, z, z, y, y])


def _stack(rows: list[tuple]) -> Shapes:
    shapes = ((0, 3), (0, 3), (0,), (0, 6), (0, 6, 2), (0, 6, 2), (0, 6, 3), (0, 4))
    columns = zip(*rows, strict=True) if rows else (np.zeros(shape) for shape in shapes)
    arrays = [np.array(column, np.int64 if i == 3 else np.float64) for i, column in enumerate(columns)]
    return Shapes(*arrays)
