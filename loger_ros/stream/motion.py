"""Has the image moved? A camera at rest adds frames without parallax, which cost time and add nothing."""

from __future__ import annotations

import cv2
import numpy as np

from loger_ros.types import Frame

WIDTH = 160  # pixels: motion is measured on a small grey picture
LONGEST_REST = 1_000_000_000  # ns: a frame passes at least this often, so that rest is not taken for a gap
LEAST_CORNERS = 12


class MotionGate:
    """Measures the median shift of corners against the last frame that passed.

    Turning on the spot moves the picture and therefore passes: it has no parallax, but it is motion.
    """

    def __init__(self, min_motion: float) -> None:
        """min_motion in image widths."""
        self._least = min_motion * WIDTH  # pixels of the small picture
        self._small: np.ndarray | None = None
        self._corners: np.ndarray | None = None  # (k, 1, 2)
        self._stamp = 0  # ns

    def passes(self, frame: Frame) -> bool:
        small = _small_grey(frame.image)
        rested = frame.stamp - self._stamp
        if 0 <= rested < LONGEST_REST and not self._moved(small):
            return False
        self._small, self._stamp = small, frame.stamp
        self._corners = cv2.goodFeaturesToTrack(small, maxCorners=100, qualityLevel=0.01, minDistance=5)
        return True

    def _moved(self, small: np.ndarray) -> bool:
        if self._small is None or self._small.shape != small.shape:
            return True
        if self._corners is None or len(self._corners) < LEAST_CORNERS:
            return True  # too few corners to see it by
        start = self._corners
        there, found, _ = cv2.calcOpticalFlowPyrLK(self._small, small, start, np.empty_like(start))
        tracked = np.asarray(found)[:, 0] == 1
        if tracked.sum() < LEAST_CORNERS:
            return True  # the scene has changed
        shift = np.linalg.norm((there - start)[tracked, 0], axis=-1)
        return bool(np.median(shift) >= self._least)


def _small_grey(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    size = (WIDTH, max(round(height * WIDTH / width), 1))
    return cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
