"""How close two clouds are: accuracy, completeness, F-score, Chamfer distance."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

MOST_QUERIES = 100_000  # points of each cloud whose nearest neighbour is searched for
LEAVES = {"algorithm": 4, "leaf_max_size": 10}  # FLANN's single k-d tree, which is exact
EXACT = {"checks": -1}  # "eps" stays 0, its default: the OpenCV of Ubuntu 22.04 accepts no float


def cloud_errors(
    made: np.ndarray, true: np.ndarray, threshold: float, voxel: float, seed: int = 0
) -> dict[str, Any]:
    """Compare points (N, 3) and (M, 3) in one frame and its unit; both are thinned to voxels of one edge.

    Accuracy: mean distance of made points to the true cloud; completeness: of true points to the made one.
    Percentages are None if voxels are larger than the threshold: such points cannot show what is within it.
    """
    if not len(made) or not len(true):
        return {}
    made, true = thinned(made, voxel), thinned(true, voxel)
    accuracy, completeness = nearest(made, true, seed), nearest(true, made, seed)
    precision, recall = float((accuracy < threshold).mean()), float((completeness < threshold).mean())
    both = precision + recall
    shares = {
        "precision_percent": 100 * precision,
        "recall_percent": 100 * recall,
        "f_score_percent": 100 * 2 * precision * recall / both if both else 0.0,
    }
    return {
        "accuracy": float(accuracy.mean()),
        "accuracy_median": float(np.median(accuracy)),
        "completeness": float(completeness.mean()),
        "completeness_median": float(np.median(completeness)),
        "chamfer": float(accuracy.mean() + completeness.mean()) / 2,
        "threshold": threshold,
        "voxel": voxel,
        "points": [len(made), len(true)],
    } | (shares if voxel <= threshold else dict.fromkeys(shares))


def thinned(points: np.ndarray, voxel: float) -> np.ndarray:
    """Return one point for each voxel of this edge length: the mean of the points in it."""
    corners = np.floor(points / voxel)
    order = np.lexsort(corners.T)
    first = np.flatnonzero(np.diff(corners[order], axis=0, prepend=np.nan).any(1))
    counts = np.diff(first, append=len(points))
    return np.add.reduceat(points[order], first) / counts[:, None]


def nearest(points: np.ndarray, others: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return distances of points to the nearest of the others; for a random sample if there are very many."""
    centre = others.mean(0)  # float32 is exact enough only near the origin
    queries = points
    if len(points) > MOST_QUERIES:
        queries = points[np.random.default_rng(seed).choice(len(points), MOST_QUERIES, replace=False)]
    queries = np.ascontiguousarray(queries - centre, dtype=np.float32)
    tree = cv2.flann_Index(  # type: ignore[attr-defined]
        np.ascontiguousarray(others - centre, dtype=np.float32), LEAVES
    )
    _, squared = tree.knnSearch(queries, 1, params=EXACT)
    return np.sqrt(squared[:, 0].astype(np.float64))
