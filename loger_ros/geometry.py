"""Rigid motions in NumPy float64. Arrays may carry any number of leading axes."""

from __future__ import annotations

import numpy as np

# Columns: the axes of an optical frame (x right, y down, z ahead) in a body (x ahead, y left, z up).
BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def transform(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) and (..., 3) → (..., 4, 4)."""
    result = np.zeros((*np.shape(rotation)[:-2], 4, 4))
    result[..., :3, :3] = rotation
    result[..., :3, 3] = translation
    result[..., 3, 3] = 1.0
    return result


def inverse(pose: np.ndarray) -> np.ndarray:
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return transform(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def mount(xyz: tuple[float, ...], rpy: tuple[float, ...]) -> np.ndarray:
    """T_base_camera, in optical axes, of a camera body at xyz (m), turned by roll, pitch and yaw (rad)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    rotation = np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
    return transform(rotation, np.array(xyz)) @ BODY_FROM_OPTICAL


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation closest to a 3x3 matrix in the Frobenius norm."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., :, 2] *= np.linalg.det(u @ vt)[..., None]
    return u @ vt


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) → (..., 4) as x, y, z, w with w >= 0."""
    r = np.asarray(rotation, dtype=float)
    outer = r.reshape(-1, 9) @ _OUTER_BY_ENTRY + _OUTER_OF_ZERO
    longest = outer[:, ::5].argmax(-1)  # row: avoids dividing by a small number
    q = outer.reshape(-1, 4, 4)[np.arange(len(outer)), longest]
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[:, 3:] < 0, -q, q).reshape(*r.shape[:-2], 4)


def _outer(r: np.ndarray) -> np.ndarray:
    """Return 4 q qᵀ of rotations (n, 3, 3) as (n, 16), which is linear in their entries."""
    trace = np.trace(r, axis1=-2, axis2=-1)[:, None, None]
    outer = np.empty((len(r), 4, 4))
    outer[:, :3, :3] = r + np.swapaxes(r, -1, -2) + (1 - trace) * np.eye(3)
    outer[:, 3, :3] = outer[:, :3, 3] = r[:, [2, 0, 1], [1, 2, 0]] - r[:, [1, 2, 0], [2, 0, 1]]
    outer[:, 3, 3] = 1 + trace[:, 0, 0]
    return outer.reshape(-1, 16)


_OUTER_OF_ZERO = _outer(np.zeros((1, 3, 3)))
_OUTER_BY_ENTRY = _outer(np.eye(9).reshape(9, 3, 3)) - _OUTER_OF_ZERO  # (9, 16)


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
    """(..., 4) x, y, z, w of any length except zero → (..., 3, 3)."""
    q = np.asarray(quaternion, dtype=float)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    w, k = q[..., 3, None, None], cross_matrix(q[..., :3])
    return np.eye(3) + 2 * w * k + 2 * k @ k


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """(..., 3) → (..., 3, 3) with cross_matrix(a) @ b = a x b."""
    v = np.asarray(v, dtype=float)
    result = np.zeros((*v.shape, 3))
    result[..., 2, 1], result[..., 0, 2], result[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    return result - np.swapaxes(result, -1, -2)


def exp_rotation(vector: np.ndarray) -> np.ndarray:
    """Axis times angle in radians (..., 3) → (..., 3, 3)."""
    vector = np.asarray(vector, dtype=float)
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    xyz = vector / 2 * np.sinc(half / np.pi)
    return rotation_of(np.concatenate([xyz, np.cos(half)], axis=-1))


def log_rotation(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) → axis times angle (..., 3), angle in [0, pi]."""
    q = quaternion(rotation)
    norm = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(norm, q[..., 3:])
    return q[..., :3] * np.where(norm > 1e-12, angle / np.maximum(norm, 1e-12), 2.0)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) → (..., 6): translation and rotation of b in a's own axes."""
    relative = inverse(a) @ b
    return np.concatenate([relative[..., :3, 3], log_rotation(relative[..., :3, :3])], axis=-1)


def adjoint(pose: np.ndarray) -> np.ndarray:
    """T_a_b (..., 4, 4) → (..., 6, 6): carries a small motion (translation, rotation) from b into a."""
    rotation = pose[..., :3, :3]
    result = np.zeros((*pose.shape[:-2], 6, 6))
    result[..., :3, :3] = result[..., 3:, 3:] = rotation
    result[..., :3, 3:] = cross_matrix(pose[..., :3, 3]) @ rotation
    return result
