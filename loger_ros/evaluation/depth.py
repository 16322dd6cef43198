"""How true the predicted depth is, from a sample of pixels of every frame."""

from __future__ import annotations

import numpy as np

PIXELS = 200  # of one frame
MOST_SAMPLES = 20_000_000  # of one run


class DepthSample:
    """Pairs of predicted and true depth. What is kept of a frame does not depend on its size."""

    def __init__(self) -> None:
        self._pairs: list[np.ndarray] = []
        self._count = 0
        self.frames = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """(h, w) of the network and (H, W) of the truth: one picture at two sizes; nearest pixels meet."""
        if self._count >= MOST_SAMPLES:
            return
        h, w = predicted.shape
        step = max(int(np.sqrt(h * w / PIXELS)), 1)
        rows, columns = np.arange(step // 2, h, step), np.arange(step // 2, w, step)
        seen = true[_nearest(rows, h, true.shape[0])][:, _nearest(columns, w, true.shape[1])]
        made = predicted[rows][:, columns]
        known = np.isfinite(seen) & (seen > 0) & np.isfinite(made)
        if known.any():
            self._pairs.append(np.stack([made[known], seen[known]], 1).astype(np.float32))
            self._count += int(known.sum())
            self.frames += 1

    def errors(self, scale: float | None = 1.0) -> dict[str, float]:
        """AbsRel and δ1 (percent) after multiplying by ``scale``; None: by what makes the medians equal."""
        if not self._pairs:
            return {}
        made, true = np.concatenate(self._pairs).astype(np.float64).T
        if scale is None:
            scale = float(np.median(true / np.maximum(made, 1e-9)))
        made = scale * made
        ratio = np.maximum(made, 1e-9) / true
        return {
            "scale": scale,
            "abs_rel": float(np.mean(np.abs(made - true) / true)),
            "delta1_percent": 100 * float(np.mean(np.maximum(ratio, 1 / ratio) < 1.25)),
        }


def _nearest(places: np.ndarray, size: int, other: int) -> np.ndarray:
    """Pixels of another size at the same places of the picture."""
    return np.clip(np.floor((places + 0.5) * other / size).astype(int), 0, other - 1)
