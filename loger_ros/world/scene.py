"""What a place is made of: boxes, upright cylinders and ellipsoids, with a material on every face."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FACES = (
    6  # -x +x -y +y -z +z of the shape's own axes; round shapes use face 1 for the side, 4 and 5 for the caps
)
SHAPES = ("box", "cylinder", "ellipsoid")


@dataclass(frozen=True, eq=False)
class Shapes:
    """K shapes of one kind. World axes: x, y level, z up; metres, radians."""

    centre: np.ndarray  # (K, 3) float64
    half: np.ndarray  # (K, 3) half sizes along the shape's own axes
    yaw: np.ndarray  # (K,) about z
    texture: np.ndarray  # (K, 6) int64 number of the texture in the atlas
    repeat: np.ndarray  # (K, 6, 2) how often the texture repeats over the face (u, v)
    offset: np.ndarray  # (K, 6, 2) where it starts, in textures
    tint: np.ndarray  # (K, 6, 3) colour factor, light included
    sweep: (
        np.ndarray
    )  # (K, 4) moving shapes: x, y, z amplitude [m] and period [s] of a swing to and fro; 0: still

    def __len__(self) -> int:
        return len(self.centre)


@dataclass(frozen=True, eq=False)
class LightMap:
    """Seen from above: how much light arrives in the air over each cell, and on the ground in it."""

    values: np.ndarray  # (H, W, 2) uint8: air, ground; 255 is full light
    origin: tuple[float, float]  # x, y of the middle of cell (0, 0), metres
    cell: float  # metres


@dataclass(frozen=True, eq=False)
class Scene:
    kind: str
    split: str  # which textures it uses: train, validation or test
    shapes: dict[str, Shapes]  # by the names of SHAPES
    light: LightMap
    sun: np.ndarray  # (3,) direction towards the light that shades round shapes, unit length
    ambient: float  # light that arrives without the sun, 0..1
    haze: np.ndarray  # (3,) colour 0..1
    haze_distance: float  # metres after which 63 % of a surface's colour is haze
    sky: np.ndarray = field(default_factory=lambda: np.array([0.55, 0.7, 0.92]))  # (3,) colour at the zenith
