"""A keyframe, its corners, and the frames that still see them: poses and depths by robust least squares.

Every corner is a ray (x, y, 1) of the keyframe with an inverse depth. On the floor the inverse depth is
linear in the ray: down · ray / height = plane · ray. So corners on the floor share the three numbers of the
plane. It is never decided which corners these are: each is held to the plane as firmly as its own parallax
supports it. Frame poses (R, t) take points of the keyframe's camera into the frame's camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loger_ros.evaluation.classical.floor import Floor
from loger_ros.geometry import cross_matrix, exp_rotation, transform

LEAST = 1e-3  # inverse depth; farther points are taken to be as far as this
_NEAR = 0.05  # least depth, to avoid dividing by zero


@dataclass(eq=False)
class Segment:
    rays: np.ndarray  # (N, 3), the last coordinate is 1
    inverse_depth: np.ndarray  # (N,)
    expected: np.ndarray  # (N,) prior inverse depth, without the floor constraint
    certainty: np.ndarray  # (N,) one over its variance
    focal: float  # pixels
    noise: float  # pixels, standard deviation of a good observation
    floor: Floor | None
    stretch: float  # standard deviation of the common factor of ``expected``
    R: np.ndarray  # (F, 3, 3)
    t: np.ndarray  # (F, 3)
    seen: np.ndarray  # (F, N, 2) normalised image coordinates
    valid: np.ndarray  # (F, N) bool

    def __post_init__(self) -> None:
        self.plane = np.zeros(3) if self.floor is None else self.floor.plane.copy()
        self.factor = 1.0
        self.hold = np.zeros(len(self.rays))  # (N,) one over the variance of the distance from the plane

    def add(self, R: np.ndarray, t: np.ndarray, seen: np.ndarray, valid: np.ndarray) -> None:
        self.R, self.t = np.concatenate([self.R, R[None]]), np.concatenate([self.t, t[None]])
        self.seen = np.concatenate([self.seen, seen[None]])
        self.valid = np.concatenate([self.valid, valid[None]])

    def pose(self, frame: int) -> np.ndarray:
        """T_keyframe_frame (4, 4)."""
        return transform(self.R[frame].T, -self.R[frame].T @ self.t[frame])

    def predict(self, R: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Where a camera at this pose would see the corners, (N, 2) normalised."""
        points = self.rays @ R.T + self.inverse_depth[:, None] * t
        return points[:, :2] / np.maximum(points[:, 2:], _NEAR)

    def errors(self) -> np.ndarray:
        """Reprojection errors (F, N) in pixels."""
        points, z = self._points()
        return self.focal * np.linalg.norm(points[..., :2] / z[..., None] - self.seen, axis=-1)

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Inverse depths (N,) from prior and observations, ignoring the floor, and their certainty (N,)."""
        points, z = self._points()
        scale = self.focal / self.noise
        at = points[..., :2] / z[..., None]
        residual = scale * (at - self.seen)
        by_depth = scale / z[..., None] * (self.t[:, None, :2] - at * self.t[:, None, 2:])
        weight = self.valid / (1 + (residual**2).sum(-1))
        certainty = self.certainty + (weight * (by_depth**2).sum(-1)).sum(0)
        slope = (weight * (by_depth * residual).sum(-1)).sum(0)
        slope = slope + self.certainty * (self.inverse_depth - self.factor * self.expected)
        return np.maximum(self.inverse_depth - slope / certainty, LEAST), certainty

    def rescale(self, factor: float) -> None:
        """Make everything ``factor`` times as large."""
        self.t = self.t * factor
        self.inverse_depth = self.inverse_depth / factor
        self.expected = self.expected / factor
        self.certainty = self.certainty * factor**2

    def solve(self, iterations: int, first: int = 0) -> float:
        """Improve poses of the frames from ``first`` on, depths and plane. Return the robust cost."""
        if self.floor is not None:
            self.hold = self.floor.hold(self.rays @ self.plane, *self.measured())
        damping, cost = 1e-4, self._cost()
        for _ in range(iterations):
            kept = self.R, self.t, self.inverse_depth, self.plane, self.factor
            self._step(damping, first)
            new = self._cost()
            if new <= cost:
                done = cost - new < 1e-3 * cost
                cost, damping = new, max(damping / 10, 1e-6)
                if done:
                    break
            else:
                self.R, self.t, self.inverse_depth, self.plane, self.factor = kept
                damping = max(damping, 1e-3) * 10
        return cost

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points times inverse depth (F, N, 3), in the frames' cameras, and their z (F, N)."""
        points = np.einsum("fij,nj->fni", self.R, self.rays) + self.inverse_depth[:, None] * self.t[:, None]
        return points, np.maximum(points[..., 2], _NEAR)

    def _cost(self) -> float:
        """Cauchy cost of the observations plus the cost of all priors."""
        square = (self.errors() / self.noise) ** 2
        cost = float((np.log1p(square) * self.valid).sum())
        cost += float((self.certainty * (self.inverse_depth - self.factor * self.expected) ** 2).sum())
        cost += float(((self.factor - 1) / self.stretch) ** 2)
        if self.floor is not None:
            off = self.plane - self.floor.plane
            cost += float((self.hold * (self.inverse_depth - self.rays @ self.plane) ** 2).sum())
            cost += float(off @ self.floor.information @ off)
            cost += sum(
                float(weight * (value**2).sum()) for value, _, weight in self.floor.level(self.R, self.t)
            )
        return cost

    def _step(self, damping: float, first: int) -> None:
        points, z = self._points()
        x, y = points[..., 0] / z, points[..., 1] / z
        scale = self.focal / self.noise
        residual = scale * (np.stack([x, y], -1) - self.seen)  # (F, N, 2) in standard deviations
        weight = self.valid / (1 + (residual**2).sum(-1))
        projection = np.zeros((*z.shape, 2, 3))
        projection[..., 0, 0] = projection[..., 1, 1] = scale / z
        projection[..., 0, 2], projection[..., 1, 2] = -scale * x / z, -scale * y / z
        # The frame's pose changes from the left: a rotation moves all points, a shift moves near ones.
        by_turn = -projection @ cross_matrix(points)
        by_shift = projection * self.inverse_depth[:, None, None]
        by_pose = np.concatenate([by_turn, by_shift], -1)  # (F, N, 2, 6)
        by_depth = (projection @ self.t[:, None, :, None])[..., 0]  # (F, N, 2)
        weighted = by_pose * weight[..., None, None]
        blocks = np.einsum("fnki,fnkj->fij", weighted, by_pose)
        slopes = np.einsum("fnki,fnk->fi", weighted, residual)
        size = 6 * len(self.R)
        common = size + 4  # common to all frames: the plane and the factor
        H, b = np.zeros((common, common)), np.zeros(common)
        cross = np.zeros((common, len(self.rays)))
        cross[:size] = np.einsum("fnki,fnk->fin", weighted, by_depth).reshape(size, -1)
        off_expected = self.inverse_depth - self.factor * self.expected
        own_H = (weight * (by_depth**2).sum(-1)).sum(0) + self.certainty + self.hold + 1e-9
        own_b = (weight * (by_depth * residual).sum(-1)).sum(0) + self.certainty * off_expected
        H[-1, -1] = self.stretch**-2 + (self.certainty * self.expected**2).sum()
        b[-1] = (self.factor - 1) * self.stretch**-2 - (self.certainty * self.expected * off_expected).sum()
        cross[-1] = -self.certainty * self.expected
        H[size:-1, size:-1] = np.eye(3)
        if self.floor is not None:
            for value, jacobian, firm in self.floor.level(self.R, self.t):
                blocks += firm * np.einsum("fki,fkj->fij", jacobian, jacobian)
                slopes += firm * np.einsum("fki,fk->fi", jacobian, value)
            off_plane = self.inverse_depth - self.rays @ self.plane
            held = self.rays * self.hold[:, None]
            own_b += self.hold * off_plane
            H[size:-1, size:-1] = self.floor.information + held.T @ self.rays
            b[size:-1] = self.floor.information @ (self.plane - self.floor.plane) - held.T @ off_plane
            cross[size:-1] = -held.T
        for f, block in enumerate(blocks):
            H[6 * f : 6 * f + 6, 6 * f : 6 * f + 6] = block
        b[:size] = slopes.reshape(-1)
        H -= (cross / own_H) @ cross.T
        b -= cross @ (own_b / own_H)
        step = np.zeros(common)
        H, b = H[6 * first :, 6 * first :], b[6 * first :]
        diagonal = np.diag_indices_from(H)
        H[diagonal] += damping * H[diagonal] + 1.0  # a frame that saw nothing stays where it is
        step[6 * first :] = -np.linalg.solve(H, b)
        poses = step[:size].reshape(-1, 6)
        turn = exp_rotation(poses[:, :3])
        self.R = turn @ self.R
        self.t = np.einsum("fij,fj->fi", turn, self.t) + poses[:, 3:]
        self.inverse_depth = np.maximum(self.inverse_depth - (own_b + step @ cross) / own_H, LEAST)
        if self.floor is not None:
            self.plane = self.plane + step[size:-1]
        self.factor = self.factor + float(step[-1])
