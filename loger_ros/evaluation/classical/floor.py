"""What is known about a camera above a level floor, and how firmly corners are held to that floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loger_ros.geometry import cross_matrix, transform

HORIZON = 0.05  # over the camera's height: inverse depth of the farthest floor that is used
STANDING = 0.5  # density, per relative inverse depth, of things that stand in front of the floor
STRAY = 0.03  # the same of things that seem to be below the floor
SCALES = np.exp(np.linspace(-1.0, 1.0, 101))


@dataclass(frozen=True, eq=False)
class Floor:
    plane: np.ndarray  # (3,) unit vector pointing down, in the camera, divided by the camera's height
    tilt: float  # radians, standard deviation of the camera's tilt from the nominal one
    lift: float  # metres, standard deviation of its height
    likely: float  # share of the corners below the horizon that are on the floor
    flat: float  # relative standard deviation of the floor's inverse depth

    @classmethod
    def below(
        cls, height: float, pitch: float, *, tilt: float, lift: float, likely: float, flat: float
    ) -> Floor:
        """``pitch`` and ``tilt`` in radians, ``lift`` as a share of the height."""
        return cls(np.array([0.0, np.cos(pitch), np.sin(pitch)]) / height, tilt, lift * height, likely, flat)

    @property
    def height(self) -> float:
        return float(1 / np.linalg.norm(self.plane))

    @property
    def down(self) -> np.ndarray:
        return self.plane * self.height

    @property
    def axes(self) -> np.ndarray:
        """Axes (3, 3) in the camera; the rows point forward along the ground, right and down."""
        return _axes(self.down)

    @property
    def information(self) -> np.ndarray:
        """Information matrix (3, 3) of the plane."""
        along = np.outer(self.down, self.down)
        return self.height**2 * ((np.eye(3) - along) / self.tilt**2 + along * (self.height / self.lift) ** 2)

    def candidates(self, rays: np.ndarray) -> np.ndarray:
        """Which rays (N,) are far enough below the horizon."""
        return rays @ self.plane > HORIZON / self.height

    def hold(self, on_plane: np.ndarray, found: np.ndarray, certainty: np.ndarray) -> np.ndarray:
        """How firmly corners are held to the floor: one over a variance (N,).

        ``on_plane`` (N,): inverse depth if they are on the floor; ``found``: that of their own parallax.
        Once the corner's own depth is eliminated, this leaves the weight of the most likely mixture:
        chance / (own variance + that of the floor).
        """
        below = on_plane > HORIZON / self.height
        safe = np.where(below, on_plane, 1.0)
        own = 1 / (certainty * safe**2)
        chance = self._chance(found / safe - 1, own + self.flat**2)
        variance = (self.flat**2 + own * (1 - chance)) / np.maximum(chance, 1e-6)
        return np.where(below, 1 / (variance * safe**2), 0.0)

    def best_scale(
        self, on_plane: np.ndarray, found: np.ndarray, certainty: np.ndarray, doubt: float, gain: float
    ) -> float:
        """The factor by which everything should grow: 1 unless another explains much more (``gain``, nats).

        ``doubt``: prior standard deviation of the logarithm of the factor.
        """
        use = (on_plane > HORIZON / self.height) & (certainty * on_plane**2 > 0.3**-2)
        if use.sum() < 5:
            return 1.0
        ratio = found[use] / on_plane[use] / SCALES[:, None]
        variance = 1 / (certainty[use] * on_plane[use] ** 2) / SCALES[:, None] ** 2 + self.flat**2
        odds = np.log(self._on(ratio - 1, variance) + self._else(ratio - 1)).sum(1)
        odds -= 0.5 * (np.log(SCALES) / doubt) ** 2
        best = int(np.argmax(odds))
        return float(SCALES[best]) if odds[best] > odds[len(SCALES) // 2] + gain else 1.0

    def _on(self, off: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return self.likely * np.exp(-0.5 * off**2 / variance) / np.sqrt(2 * np.pi * variance)

    def _else(self, off: np.ndarray) -> np.ndarray:
        return (1 - self.likely) * np.where(off > 0, STANDING, STRAY)

    def _chance(self, off: np.ndarray, variance: np.ndarray) -> np.ndarray:
        on = self._on(off, variance)
        return on / (on + self._else(off))

    def level(self, R: np.ndarray, t: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Residual, Jacobian by (rotation, shift), weight of each frame's height (F, 1) and tilt (F, 3)."""
        turned = R @ self.down  # (F, 3)
        rise = np.zeros((len(R), 1, 6))
        rise[:, 0, 3:] = turned
        tilt = np.zeros((len(R), 3, 6))
        tilt[:, :, :3] = -cross_matrix(turned)
        return [
            (np.einsum("fi,fi->f", turned, t)[:, None], rise, 0.5 / self.lift**2),
            (turned - self.down, tilt, 0.5 / self.tilt**2),
        ]


def levelled(T_world_camera: np.ndarray, down: np.ndarray, height: float) -> np.ndarray:
    """The pose with the same heading and ground position, this height, and ``down`` (3,) pointing down."""
    camera = _axes(down / np.linalg.norm(down))
    heading = T_world_camera[:3, :3] @ camera[0]
    if np.hypot(heading[0], heading[1]) < 0.1:
        heading = np.array([1.0, 0.0, 0.0])
    forward = np.array([heading[0], heading[1], 0.0]) / np.hypot(heading[0], heading[1])
    right = np.array([forward[1], -forward[0], 0.0])
    world = np.stack([forward, right, np.array([0.0, 0.0, -1.0])], 1)
    return transform(world @ camera, np.array([*T_world_camera[:2, 3], height]))


def _axes(down: np.ndarray) -> np.ndarray:
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down
    ahead /= np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(down, ahead), down])
