"""First guesses of a motion by random sampling: on the floor plane, or by the essential matrix."""

from __future__ import annotations

import cv2
import numpy as np

from loger_ros.evaluation.classical.floor import Floor
from loger_ros.geometry import nearest_rotation


def on_plane(
    rays: np.ndarray,
    seen: np.ndarray,
    floor: Floor,
    tolerance: float,
    rng: np.random.Generator,
    tries: int = 100,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return R (3, 3), t (3,) keyframe → frame, and which corners (N,) move as the floor does.

    ``rays`` (N, 3) of the keyframe, all below the horizon, are ``seen`` (N, 2) in the frame. Both cameras
    are taken to have the nominal tilt and height, so the floor moves by a rotation and a shift in its plane.
    """
    if len(rays) < 3:
        return None
    axes = floor.axes
    after = np.concatenate([seen, np.ones((len(seen), 1))], 1)
    below = floor.candidates(rays) & floor.candidates(after)
    if below.sum() < 3:
        return None
    index = np.flatnonzero(below)
    a, b = (
        (r[index] / (r[index] @ floor.plane)[:, None]) @ axes[:2].T for r in (rays, after)
    )  # (M, 2) metres on the floor
    weak = _choose(a, b, after[index], axes, floor, tolerance, rng, tries)
    if weak is None:
        return None
    angle, shift, inliers = weak
    R2 = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    R = axes.T @ np.block([[R2, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]]) @ axes
    mask = np.zeros(len(rays), bool)
    mask[index[inliers]] = True
    return R, axes[:2].T @ shift, mask


def _choose(
    a: np.ndarray,
    b: np.ndarray,
    after: np.ndarray,
    axes: np.ndarray,
    floor: Floor,
    tolerance: float,
    rng: np.random.Generator,
    tries: int,
) -> tuple[float, np.ndarray, np.ndarray] | None:
    pairs = rng.integers(0, len(a), (tries, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    da, db = a[pairs[:, 1]] - a[pairs[:, 0]], b[pairs[:, 1]] - b[pairs[:, 0]]
    angles = np.arctan2(
        da[:, 0] * db[:, 1] - da[:, 1] * db[:, 0], (da * db).sum(1)
    )  # of every hypothesis (T,)
    keep = np.abs(angles) < 0.6
    angles, pairs = angles[keep], pairs[keep]
    if len(angles) == 0:
        return None
    shifts = 0.5 * (b[pairs].sum(1) - _turn(angles, a[pairs].sum(1)))
    errors = _errors(angles, shifts, a, after, axes, floor)  # (T, M)
    best = int(np.argmin(np.minimum(errors / tolerance, 1).sum(1)))
    angle, shift = float(angles[best]), shifts[best]
    inliers = errors[best] < tolerance
    if inliers.sum() < 3:
        return None
    return angle, shift, inliers


def _turn(angles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(T,) and (T, ..., 2) → (T, ..., 2)"""
    c, s = (f(angles).reshape(-1, *(1,) * (points.ndim - 2)) for f in (np.cos, np.sin))
    return np.stack([c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1]], -1)


def _errors(
    angles: np.ndarray,
    shifts: np.ndarray,
    a: np.ndarray,
    after: np.ndarray,
    axes: np.ndarray,
    floor: Floor,
) -> np.ndarray:
    """Distances (T, M) in the second image, in normalised coordinates."""
    moved = _turn(angles, np.broadcast_to(a, (len(angles), *a.shape))) + shifts[:, None]
    points = moved @ axes[:2] + floor.height * axes[2]
    seen = points[..., :2] / np.maximum(points[..., 2:], 0.05)
    return np.linalg.norm(seen - after[:, :2], axis=-1)


def by_essential(
    rays: np.ndarray, seen: np.ndarray, inverse_depth: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return R (3, 3), t (3,) keyframe → frame, in the units of the depths, and the inliers (N,)."""
    found = _essential(rays, seen, tolerance)
    if found is None:
        return None
    R, direction, obeys = found
    fixed, moving = _constraint(rays, seen, R, direction)
    moving = inverse_depth[:, None] * moving
    square = (moving**2).sum(1)
    good = obeys & (square > 1e-12)
    length = float(np.median(-(fixed * moving).sum(1)[good] / square[good])) if good.any() else 0.0
    return R, length * direction, obeys


def triangulated(
    rays: np.ndarray, seen: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray] | None:
    """Return R, t of length 1, inverse depths (N,), median parallax (normalised) and the inliers (N,)."""
    found = _essential(rays, seen, tolerance)
    if found is None:
        return None
    R, t, obeys = found
    fixed, moving = _constraint(rays, seen, R, t)
    inverse_depth = -(fixed * moving).sum(1) / np.maximum((moving**2).sum(1), 1e-12)
    obeys &= inverse_depth > 0
    if obeys.sum() < 8:
        return None
    turned = rays @ R.T
    parallax = np.linalg.norm(turned[:, :2] / turned[:, 2:] - seen, axis=1)
    return R, t, inverse_depth, float(np.median(parallax[obeys])), obeys


def turn_alone(rays: np.ndarray, seen: np.ndarray, noise: float) -> np.ndarray:
    """The R (3, 3) keyframe → frame that explains most corners without any translation."""
    if len(rays) < 3:
        return np.eye(3)
    a = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    b = np.concatenate([seen, np.ones((len(seen), 1))], 1)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    weight, R = np.ones(len(a)), np.eye(3)
    for _ in range(5):
        R = nearest_rotation((b * weight[:, None]).T @ a)
        weight = 1 / (1 + (((b - a @ R.T) / noise) ** 2).sum(1))
    return R


def _constraint(
    rays: np.ndarray, seen: np.ndarray, R: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The a and b (N, 3) of the constraint a + inverse depth * b = 0."""
    after = np.concatenate([seen, np.ones((len(seen), 1))], 1)
    return np.cross(after, rays @ R.T), np.cross(after, t)


def _essential(
    rays: np.ndarray, seen: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    if len(rays) < 8:
        return None
    first, second = (np.ascontiguousarray(points[:, :2], float) for points in (rays, seen))
    essential, mask = cv2.findEssentialMat(first, second, np.eye(3), cv2.RANSAC, 0.999, tolerance)
    if essential is None or essential.shape != (3, 3):
        return None
    _, R, t, _ = cv2.recoverPose(essential, first, second, np.eye(3), mask=mask.copy())
    return R, t[:, 0], mask[:, 0].astype(bool)
