"""Corners and their motion by pyramidal Lucas-Kanade, forwards and back again."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

PRECISION = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True)
class TrackerSettings:
    """Lengths in pixels."""

    window: int  # side length of the patch that is compared
    levels: int  # of the pyramid, above the image itself
    corners: int  # largest number that is followed at once
    spacing: float  # between corners
    round_trip: float  # a corner is lost if, tracked back, it is farther from its start
    quality: float = 0.003  # of the weakest corner, relative to the strongest
    blur: float = 0.0  # standard deviation of a Gaussian that removes pixel noise


def prepare(image: np.ndarray, settings: TrackerSettings) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8 → (H, W) uint8 grey whose brightness and contrast do not drift."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    grey = grey.astype(np.float32)
    if settings.blur:
        grey = cv2.GaussianBlur(grey, (0, 0), settings.blur)
    wide = cv2.GaussianBlur(grey, (0, 0), grey.shape[1] / 8)
    flat = grey - wide
    return np.clip(127 + 40 * flat / max(float(flat.std()), 1.0), 0, 255).astype(np.uint8)


def detect(image: np.ndarray, known: np.ndarray, settings: TrackerSettings) -> np.ndarray:
    """New corners (N, 2) away from the known ones (K, 2)."""
    wanted = settings.corners - len(known)
    if wanted <= 0:
        return np.zeros((0, 2), np.float32)
    free = np.full(image.shape, 255, np.uint8)
    for x, y in known:
        cv2.circle(free, (round(float(x)), round(float(y))), int(settings.spacing), 0, -1)
    found = cv2.goodFeaturesToTrack(image, wanted, settings.quality, settings.spacing, mask=free, blockSize=3)
    if found is None:
        return np.zeros((0, 2), np.float32)
    found = np.ascontiguousarray(found, np.float32)
    border = 1.5
    height, width = image.shape
    cv2.cornerSubPix(image, found, (2, 2), (-1, -1), PRECISION)
    found = found[:, 0]
    inside = (found > border).all(1) & (found < np.array([width, height]) - 1 - border).all(1)
    return found[inside]


def follow(
    first: np.ndarray,
    second: np.ndarray,
    points: np.ndarray,
    guess: np.ndarray,
    settings: TrackerSettings,
    levels: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Where ``points`` (N, 2) of the first image are in the second, and which of them can be tracked back."""
    if len(points) == 0:
        return points.copy(), np.zeros(0, bool)
    deepest = settings.levels if levels is None else levels
    points = np.ascontiguousarray(points, np.float32)[:, None]
    start = np.ascontiguousarray(guess, np.float32)[:, None]
    there, went = _flow(first, second, points, start, settings.window, deepest)
    back, came = _flow(second, first, there, points, settings.window, deepest)
    height, width = second.shape
    home = np.linalg.norm((back - points)[:, 0], axis=1) < settings.round_trip
    inside = (there[:, 0] > -0.5).all(1) & (there[:, 0] < np.array([width, height]) - 0.5).all(1)
    return there[:, 0], home & inside & went & came


def _flow(
    first: np.ndarray, second: np.ndarray, points: np.ndarray, guess: np.ndarray, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        points,
        guess.copy(),
        winSize=(window, window),
        maxLevel=levels,
        criteria=PRECISION,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-4,
    )
    return np.asarray(moved), np.asarray(found)[:, 0].astype(bool)
