"""Intrinsics and lenses: other image sizes, other directions, how far a lens formula is valid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loger_ros.types import Camera

WIDEST = 20.0  # tangent of half the field of view of the widest lens
PLAIN, FISHEYE = (0, 4, 5, 8, 12, 14), (4,)  # numbers of coefficients
_MODELS = {"plumb_bob": False, "rational_polynomial": False, "equidistant": True}  # True: fisheye


def scaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """Return the same camera for its images resized to (width, height)."""
    x, y = size[0] / camera.width, size[1] / camera.height
    # Pixel centres sit at whole numbers, so the image begins at -0.5 and that corner is what stays in place.
    resized = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return replace(camera, width=size[0], height=size[1], matrix=resized @ camera.matrix)


def turn_between(network: Camera | None, T_base_camera: np.ndarray | None) -> np.ndarray | None:
    """R_network_camera of cameras at one place; None if they look the same way or a mounting is unknown."""
    if network is None or network.T_base_camera is None or T_base_camera is None:
        return None
    turn = network.T_base_camera[:3, :3].T @ T_base_camera[:3, :3]
    return None if np.allclose(turn, np.eye(3), atol=1e-9) else turn


def same_lens(a: Camera | None, b: Camera | None) -> bool:
    """Whether two cameras have the same lens, up to what two calibrations of it differ by."""
    if a is None or b is None:
        return a is b
    alike = (a.width, a.height, a.model, len(a.distortion)) == (b.width, b.height, b.model, len(b.distortion))
    return (
        alike
        and np.allclose(a.matrix, b.matrix, rtol=0, atol=0.5)
        and np.allclose(a.distortion, b.distortion, rtol=0, atol=1e-3)
    )


def rays(camera: Camera, turn: np.ndarray | None = None) -> np.ndarray:
    """Return the directions (H, W, 3) of its pixels; in another camera's axes if ``turn`` is R_camera_other.

    The depth along its own axis is 1. Distortion is ignored.
    """
    v, u = np.indices((camera.height, camera.width))
    own = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.matrix).T
    return own if turn is None else own @ turn


def is_fisheye(camera: Camera) -> bool:
    """Whether the model is a fisheye; an unknown model is an error only if it has distortion."""
    if camera.model not in _MODELS and any(camera.distortion):
        raise ValueError(f"distortion model {camera.model!r} is unknown; known: {', '.join(_MODELS)}")
    return _MODELS.get(camera.model, False)


def check_lens(camera: Camera) -> None:
    """Raise ValueError for a lens that cannot be undistorted."""
    allowed = FISHEYE if is_fisheye(camera) else PLAIN
    if len(camera.distortion) not in allowed:
        counts = ", ".join(str(count) for count in allowed)
        raise ValueError(
            f"the distortion of a {camera.model} lens has {counts} coefficients, not {len(camera.distortion)}"
        )


def bends(camera: Camera) -> bool:
    """Whether its images differ from a pinhole's; a fisheye's always do, whatever its coefficients."""
    return bool(camera.distortion) and (any(camera.distortion) or is_fisheye(camera))


def reach(camera: Camera) -> float:
    """Return the tangent of the angle up to which the formula is one-to-one; beyond, images would repeat."""
    if not any(camera.distortion):
        return WIDEST
    k = np.zeros(8)
    k[: min(8, len(camera.distortion))] = camera.distortion[:8]
    slope = np.linspace(0, WIDEST, 4000)
    if is_fisheye(camera):
        angle = np.arctan(slope)
        radius = angle * (1 + angle**2 * (k[0] + angle**2 * (k[1] + angle**2 * (k[2] + angle**2 * k[3]))))
    else:
        r2 = slope**2
        radius = (
            slope * (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
        )
    folds = np.flatnonzero(np.diff(radius) <= 0)
    return float(slope[folds[0]]) if len(folds) else WIDEST
