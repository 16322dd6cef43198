"""Plots of one run, drawn with matplotlib if it is installed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from loger_ros.evaluation.measure import Matched
from loger_ros.evaluation.run import Run
from loger_ros.evaluation.segments import travelled
from loger_ros.evaluation.trajectory import alignment, position_errors
from loger_ros.mapping.pictures import levelling

TRUE, MADE, SAID = "#6b7280", "#d23c28", "#1e5ac8"
HINT = "The plots are missing because matplotlib is not installed: run pip install matplotlib"
MOST_POINTS = 5000  # of a curve


class Plots:
    """Each method returns PNG bytes, or None if there is nothing to show."""

    def __init__(self, run: Run, matched: Matched | None, metrics: dict[str, Any]) -> None:
        import matplotlib  # the caller shows HINT if it is missing
        from matplotlib.figure import Figure

        matplotlib.use("agg")
        self._figure = Figure
        self._run, self._metrics = run, metrics
        self._matched = matched
        poses, self._truth = run.trajectory.T_map_camera, None
        if matched is not None:
            similarity = alignment(matched.poses, matched.truth, "sim3")
            poses, self._truth = similarity.poses(matched.poses), matched.truth
        self._poses = poses

    def all(self) -> dict[str, bytes]:
        if not len(self._poses):
            return {}
        forward, left, up = levelling(self._poses if self._truth is None else self._truth)[:3, :3]
        made = {
            "path_top": self.path("Seen from above", -left, forward),
            "path_side": self.path("Seen from the side", forward, up),
            "errors": self.errors(),
            "drift": self.drift(),
            "timing": self.timing(),
        }
        return {name: picture for name, picture in made.items() if picture is not None}

    def path(self, title: str, right: np.ndarray, up: np.ndarray) -> bytes:
        figure = self._figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        sides = np.stack([right, up], 1)  # (3, 2)
        origin = self._poses[0, :3, 3]
        if self._truth is not None:
            origin = self._truth[0, :3, 3]
            axes.plot(*_thin((self._truth[:, :3, 3] - origin) @ sides).T, color=TRUE, label="truth")
        points = (self._poses[:, :3, 3] - origin) @ sides
        label = "estimate" if self._truth is None else "estimate, Sim(3)-aligned"
        axes.plot(*_thin(points).T, color=MADE, label=label, linewidth=1)
        axes.plot(*points[0], "o", color=MADE, markersize=4)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(title=title, xlabel="map units" if self._truth is None else "m")
        axes.grid(alpha=0.3)
        axes.legend()
        return _png(figure)

    def errors(self) -> bytes | None:
        """Position error over the distance travelled."""
        if self._matched is None:
            return None
        figure = self._figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        poses, truth = self._matched.poses, self._matched.truth
        distance = travelled(truth)
        labels = {"none": ("first pose only", SAID), "se3": ("SE(3)", TRUE), "sim3": ("Sim(3)", MADE)}
        for mode, (label, colour) in labels.items():
            errors = position_errors(alignment(poses, truth, mode).poses(poses), truth)
            axes.plot(*_thin(np.stack([distance, errors], 1)).T, label=label, color=colour, linewidth=1)
        axes.set(title="Position error", xlabel="distance travelled [m]", ylabel="error [m]", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
        return _png(figure)

    def drift(self) -> bytes | None:
        """Relative error over pieces of the path."""
        curves = {
            "metric": (self._metrics.get("segments", {}).get("by_length"), SAID),
            "with the scale of Sim(3)": (self._metrics.get("segments_scaled", {}).get("by_length"), MADE),
        }
        if not any(rows for rows, _ in curves.values()):
            return None
        figure = self._figure(figsize=(6, 3.4), layout="constrained")
        axes, turning = figure.subplots(1, 2)
        for label, (rows, colour) in curves.items():
            lengths = [row["length"] for row in rows or ()]
            axes.plot(
                lengths, [row["translation_percent"] for row in rows or ()], "o-", color=colour, label=label
            )
        rows = curves["metric"][0] or ()
        turning.plot([r["length"] for r in rows], [r["rotation_deg_per_m"] for r in rows], "o-", color=TRUE)
        axes.set(
            title="Position drift", xlabel="piece length [m]", ylabel="% of piece length", ylim=(0, None)
        )
        turning.set(title="Rotation drift", xlabel="piece length [m]", ylabel="°/m", ylim=(0, None))
        axes.legend()
        for panel in (axes, turning):
            panel.grid(alpha=0.3)
        return _png(figure)

    def timing(self) -> bytes | None:
        steps = np.array(self._run.timing.steps)
        if not len(steps):
            return None
        figure = self._figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        curve = np.stack([np.arange(len(steps)), steps * 1e3], 1)
        axes.plot(*_thin(curve).T, ".", color=SAID, markersize=3, label="each frame")
        axes.axhline(float(steps.mean()) * 1e3, color=MADE, label=f"mean {steps.mean() * 1e3:.1f} ms")
        axes.set(title="Time per frame", xlabel="frame", ylabel="ms", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
        return _png(figure)


def _thin(curve: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS rows, including the last one."""
    if len(curve) <= MOST_POINTS:
        return curve
    return curve[np.unique(np.linspace(0, len(curve) - 1, MOST_POINTS).astype(int))]


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": ""})
    return data.getvalue()
