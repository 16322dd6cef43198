"""What training says: a line now and then, every line as a row of a CSV file, the curves as a picture."""

from __future__ import annotations

import csv
import time
from pathlib import Path

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


class Logbook:
    """Rows after the step that is gone on from are taken back, so that a resumed file has no doubles."""

    def __init__(self, path: Path, resume_at: int) -> None:
        self._path = path
        rows = [row for row in self._read() if int(row["step"]) <= resume_at]
        self._names = list(rows[0]) if rows else []
        self._rows = rows
        self._write_all()
        self._sums: dict[str, float] = {}
        self._results: dict[str, float] = {}
        self._count = 0
        self._started = time.monotonic()
        self._frames = 0

    def add(self, values: dict[str, float], frames: int) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._frames += frames

    def add_result(self, values: dict[str, float]) -> None:
        """What is known now and then only; goes with the next row."""
        self._results |= values

    def write(self, stage: str, step: int, total: int, frames: int) -> str:
        """Averages since the last time → the line for the console."""
        means = {name: value / max(1, self._count) for name, value in self._sums.items()} | self._results
        seconds = max(1e-9, time.monotonic() - self._started)
        rate = self._frames / seconds
        minutes = (total - step) / max(1, self._count) * seconds / 60
        row = {"stage": stage, "step": step, "frames": frames, "frames/s": round(rate, 1)}
        row |= {name: f"{value:.5g}" for name, value in means.items()}
        self._rows.append({name: str(value) for name, value in row.items()})
        if set(row) - set(self._names):
            self._names += [name for name in row if name not in self._names]
            self._write_all()
        else:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._names).writerow(row)
        self._sums, self._count, self._frames, self._started = {}, 0, 0, time.monotonic()
        self._results = {}
        shown = "  ".join(f"{name} {means[name]:.3g}" for name in SHOWN if name in means)
        return f"{stage} {step}/{total}  {frames:,} frames  {rate:.0f}/s  {minutes:.0f} min left  {shown}"

    def plot(self, path: Path) -> None:
        """Needs matplotlib; the CSV file has everything it shows."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 4, figsize=(20, 4))
        for axis, names in zip(
            axes,
            (
                ("loss", "points", "pose"),
                ("rotation / still", "translation / mean"),
                ("attention", "flow"),
                ("robot ATE %", "free ATE %"),
            ),
            strict=True,
        ):
            for name in names:
                rows = [row for row in self._rows if row.get(name)]
                axis.plot(
                    [int(row["frames"]) for row in rows], [float(row[name]) for row in rows], label=name
                )
            axis.set_yscale("log")
            axis.set_xlabel("frames")
            axis.legend()
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]

    def _write_all(self) -> None:
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._names, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
