"""Find which poses belong together, by their stamps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE = 20_000_000  # ns


def associate(
    stamps: Sequence[int], others: Sequence[int], tolerance: int = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of indices whose stamps (ns) are each other's nearest and at most ``tolerance`` apart.

    Neither list needs to be sorted; the pairs come in the order of ``stamps``. No pose is used twice.
    """
    a, b = np.asarray(stamps, dtype=np.int64), np.asarray(others, dtype=np.int64)
    if not len(a) or not len(b):
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    there = _nearest(a, b)
    back = _nearest(b, a)
    mine = np.arange(len(a))
    kept = (back[there] == mine) & (np.abs(a - b[there]) <= tolerance)
    return mine[kept], there[kept]


def _nearest(stamps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of ``others`` for every stamp; on a tie, the earlier one."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    right = np.clip(np.searchsorted(ranked, stamps), 1, max(len(ranked) - 1, 1)) if len(ranked) > 1 else None
    if right is None:
        return np.zeros(len(stamps), dtype=int)
    left = right - 1
    nearer = np.where(stamps - ranked[left] <= ranked[right] - stamps, left, right)
    return order[nearer]
