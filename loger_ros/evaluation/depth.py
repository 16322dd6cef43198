"""How accurate the predicted depth is, from a sample of pixels of every frame."""

from __future__ import annotations

import numpy as np

PIXELS = 200  # of one frame
MOST_SAMPLES = 20_000_000  # of one run


class DepthSample:
    """Pairs of predicted and true depth. How many are kept of a frame does not depend on its size."""

    def __init__(self) -> None:
        self._pairs: list[np.ndarray] = []
        self._count = 0
        self.frames = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Add depths of (h, w) each, pixel by pixel; a truth that is 0 or not finite is unknown."""
        if self._count >= MOST_SAMPLES:
            return
        step = max(int(np.sqrt(predicted.size / PIXELS)), 1)
        some = (slice(step // 2, None, step), slice(step // 2, None, step))
        made, seen = predicted[some], true[some]
        known = np.isfinite(seen) & (seen > 0) & np.isfinite(made)
        if known.any():
            self._pairs.append(np.stack([made[known], seen[known]], 1).astype(np.float32))
            self._count += int(known.sum())
            self.frames += 1

    def errors(self, scale: float | None = 1.0) -> dict[str, float]:
        """Return AbsRel and δ1 (percent) after multiplying by ``scale``; None: to make medians equal."""
        if not self._pairs:
            return {}
        made, true = np.concatenate(self._pairs).astype(np.float64).T
        if scale is None:
            scale = float(np.median(true) / max(np.median(made), 1e-9))
        made = scale * made
        ratio = np.maximum(made, 1e-9) / true
        return {
            "scale": scale,
            "abs_rel": float(np.mean(np.abs(made - true) / true)),
            "delta1_percent": 100 * float(np.mean(np.maximum(ratio, 1 / ratio) < 1.25)),
        }
