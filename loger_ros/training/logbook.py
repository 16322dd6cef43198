"""What training reports: regular lines, each also as a row of a CSV file, and the curves as a picture."""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from loger_ros.files import appearing_whole

SHOWN = (
    "loss",
    "points",
    "pose",
    "attention",
    "flow",
    "rotation °",
    "rotation / still",
    "translation / still",
    "translation / mean",
    "robot ATE %",
    "free ATE %",
)
FEW = 20  # points of a curve that are marked one by one
CURVES = {  # titles; columns and what they are called
    "losses": {"loss": "total", "points": "points", "pose": "poses"},
    "errors from frame to frame, as a share of those of a network that sees nothing": {
        "rotation / still": "rotation (1: none is seen)",
        "translation / mean": "translation (1: always the mean)",
    },
    "training aids": {"attention": "attention to true matches", "flow": "flow of tokens"},
    "validation: ATE in % of the path": {
        "robot ATE %": "robot, in metres",
        "free ATE %": "6-DoF, up to scale",
    },
}


@dataclass
class Pending:
    """Values since the last row; saved with the state, so that no row depends on where a run was stopped."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # steps that reported each
    results: dict[str, float] = field(default_factory=dict)


class Logbook:
    """Rows after the step that a run resumes at are removed, so that the file has no duplicates."""

    def __init__(self, path: Path, resume_at: int, pending: Pending) -> None:
        self._path = path
        self._pending = pending
        rows = [row for row in self._read() if int(row["step"]) <= resume_at]
        self._names = list(rows[0]) if rows else []
        self._rows = rows
        self._write_all()
        self._began()

    def add(self, values: dict[str, float], frames: int) -> None:
        sums, counts = self._pending.sums, self._pending.counts
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0) + 1
        self._steps += 1
        self._frames += frames

    def add_result(self, values: dict[str, float]) -> None:
        """Add values that are known only occasionally; they go into the next row."""
        self._pending.results |= values

    def write(self, stage: str, step: int, total: int, frames: int) -> str:
        """Write the averages since the last row; return the line for the console."""
        pending = self._pending
        means = {name: value / pending.counts[name] for name, value in pending.sums.items()} | pending.results
        seconds = max(1e-9, time.monotonic() - self._started)
        rate = self._frames / seconds
        minutes = (total - step) / max(1, self._steps) * seconds / 60
        row = {"stage": stage, "step": step, "frames": frames, "frames/s": round(rate, 1)}
        row |= {name: f"{value:.5g}" for name, value in means.items()}
        self._rows.append({name: str(value) for name, value in row.items()})
        if set(row) - set(self._names):
            self._names += [name for name in row if name not in self._names]
            self._write_all()
        else:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._names).writerow(row)
        pending.sums, pending.counts, pending.results = {}, {}, {}
        self._began()
        shown = "  ".join(f"{name} {means[name]:.3g}" for name in SHOWN if name in means)
        return f"{stage} {step}/{total}  {frames:,} frames  {rate:.0f}/s  {minutes:.0f} min left  {shown}"

    def _began(self) -> None:
        """Start measuring the rate, which is that of this process alone."""
        self._steps, self._frames, self._started = 0, 0, time.monotonic()

    def plot(self, path: Path) -> None:
        """Plot the curves if matplotlib is installed; the CSV file has everything they show."""
        try:
            import matplotlib
        except ImportError:
            return
        matplotlib.use("Agg")
        from matplotlib import pyplot
        from matplotlib.ticker import FuncFormatter, NullFormatter

        figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), sharex=True)
        for axis, (title, curves) in zip(axes.flat, CURVES.items(), strict=True):
            for name, label in curves.items():
                rows = [row for row in self._rows if row.get(name)]
                thousands = [int(row["frames"]) / 1000 for row in rows]
                axis.plot(
                    thousands,
                    [float(row[name]) for row in rows],
                    label=label,
                    lw=1.2,
                    marker="." if len(rows) < FEW else "",
                )
            axis.set_title(title, fontsize=10)
            axis.set_yscale("log")
            axis.set_yticks([base * 10**power for power in range(-4, 4) for base in (1, 2, 5)])
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            values = [value for line in axis.lines for value in line.get_ydata() if 0 < value < math.inf]
            if values:
                axis.set_ylim(min(values) / 1.2, max(values) * 1.2)
            axis.legend(fontsize=9)
            axis.grid(alpha=0.3)
        for axis in axes[1]:
            axis.set_xlabel("thousand frames")
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._names, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        with appearing_whole(self._path) as file:
            file.write(text.getvalue().encode())
