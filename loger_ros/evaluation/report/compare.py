"""Several runs side by side, laid out as tables in papers are: a row per method, a column per sequence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from loger_ros.evaluation.report.folder import METRICS, read_metrics
from loger_ros.evaluation.report.page import document
from loger_ros.evaluation.sources.base import natural

MOST_RUNS = 10_000
ALL, ALL_FRAMES = 10**9, "all frames"
DEEPEST = 6  # folders below the given one


@dataclass(frozen=True)
class Measure:
    title: str
    path: tuple[str, ...]  # in metrics.json
    digits: int
    higher: bool = False  # is better

    def of(self, metrics: Mapping[str, Any]) -> float | None:
        value: Any = metrics
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


MEASURES = (
    Measure("ATE after Sim(3), RMSE [m]", ("ate", "sim3", "rmse"), 3),
    Measure("ATE after SE(3), RMSE [m]", ("ate", "se3", "rmse"), 3),
    Measure("Causal error, RMSE [m]", ("causal", "rmse"), 3),
    Measure("Drift over pieces, metric [%]", ("segments", "translation_percent"), 2),
    Measure("Drift over pieces, scale of Sim(3) [%]", ("segments_scaled", "translation_percent"), 2),
    Measure("Turning error over pieces [°/m]", ("segments", "rotation_deg_per_m"), 4),
    Measure("RPE translation, RMSE [m]", ("rpe_scaled", "translation", "rmse"), 4),
    Measure("RPE rotation, RMSE [°]", ("rpe", "rotation", "rmse"), 3),
    Measure("AUC@30 of relative poses [%]", ("auc", "30"), 1, higher=True),
    Measure("Depth AbsRel, scale of medians", ("depth", "median_scale", "abs_rel"), 3),
    Measure(
        "Depth δ < 1.25, scale of medians [%]", ("depth", "median_scale", "delta1_percent"), 1, higher=True
    ),
    Measure("Cloud F-score after Sim(3) [%]", ("cloud", "sim3", "f_score_percent"), 1, higher=True),
    Measure("Frames with a pose [%]", ("frames", "coverage_percent"), 1, higher=True),
    Measure("Frames per second", ("time", "frames_per_second"), 1, higher=True),
    Measure("Peak memory [MB]", ("memory_mb", "host"), 0),
)


@dataclass(frozen=True, eq=False)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]  # the last number is the average
    measure: Measure

    def best(self, column: int) -> float | None:
        known = [values[column] for _, values in self.rows if values[column] is not None]
        if len(known) < 2:
            return None
        return max(known) if self.measure.higher else min(known)  # type: ignore[type-var]

    def text(self, value: float | None) -> str:
        return "–" if value is None else f"{value:.{self.measure.digits}f}"  # noqa: RUF001

    def html(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *self.columns))
        body = ""
        for label, values in self.rows:
            cells = ""
            for i, value in enumerate(values):
                best = value is not None and value == self.best(i)
                cells += f"<td{' class=best' if best else ''}>{self.text(value)}</td>"
            body += f"<tr><td>{escape(label)}</td>{cells}</tr>"
        return f'<h2>{escape(self.title)}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", "| | " + " | ".join(self.columns) + " |"]
        lines.append("|---|" + "---:|" * len(self.columns))
        for label, values in self.rows:
            cells = [
                f"**{self.text(value)}**" if value is not None and value == self.best(i) else self.text(value)
                for i, value in enumerate(values)
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def find_runs(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Every finished run at or below these folders, each once."""
    runs: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        for place, below, files in os.walk(folder):
            here = Path(place)
            if len(here.parts) - len(folder.parts) >= DEEPEST or len(runs) >= MOST_RUNS:
                below.clear()
            below.sort()
            if METRICS in files and (metrics := read_metrics(here)) is not None:
                runs[here.resolve()] = metrics
    return list(runs.values())


def tables(runs: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One per kind of recording and measure that any run has; one more by length, where lengths differ."""
    labels = method_labels(runs)
    made = []
    for kind in sorted({_kind(run) for run in runs}):
        chosen = [(label, run) for label, run in zip(labels, runs, strict=True) if _kind(run) == kind]
        lengths = sorted({_length(run) for _, run in chosen})
        for measure in MEASURES:
            if all(measure.of(run) is None for _, run in chosen):
                continue
            longest = [
                (label, run["source"]["name"], run) for label, run in chosen if _length(run) == lengths[-1]
            ]
            made.append(_table(f"{kind}: {measure.title}", longest, measure))
            if len(lengths) > 1:
                by_length = [(label, _length_text(run), run) for label, run in chosen]
                made.append(_table(f"{kind}, by length: {measure.title}", by_length, measure))
    return made


def method_labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model, and those settings that are not the same in all runs."""
    flat = [_flat(run["settings"]) for run in runs]
    names = sorted({name for settings in flat for name in settings} - {"frames"})
    differing = [name for name in names if len({json.dumps(each[name]) for each in flat if name in each}) > 1]
    labels = []
    for run, settings in zip(runs, flat, strict=True):
        words = [_word(name, settings[name]) for name in differing if name in settings]
        labels.append(", ".join([Path(str(run["model"]["name"])).stem, *filter(None, words)]))
    return labels


def write_comparison(
    folder: Path, runs: Sequence[Mapping[str, Any]], failures: Mapping[str, str] = {}
) -> Path:
    """compare.html and compare.md; → the page."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tables(runs)
    failed = ""
    links = ""
    labels = method_labels(runs)
    reports = [(run, label) for run, label in zip(runs, labels, strict=True) if "folder" in run]
    if reports:
        items = " · ".join(
            f'<a href="{escape(os.path.relpath(run["folder"], folder))}/report.html">'
            f"{escape(run['source']['name'])}</a> ({escape(label)})"
            for run, label in reports
        )
        links = f"<p>Reports: {items}</p>"
    if failures:
        items = "".join(
            f"<li><code>{escape(name)}</code> {escape(why)}</li>" for name, why in failures.items()
        )
        failed = f"<h2>What failed</h2><ul class=events>{items}</ul>"
    methods = len(set(labels))
    lead = f"{len(runs)} runs, {methods} methods. The best of each column is in colour."
    head = f"<h1>Comparison</h1><p class=lead>{lead}</p>"
    page = folder / "compare.html"
    page.write_text(
        document("Comparison · loger eval", head + links + failed + "".join(table.html() for table in made))
    )
    (folder / "compare.md").write_text("\n".join(table.markdown() for table in made))
    return page


def _table(title: str, cells: Sequence[tuple[str, str, Mapping[str, Any]]], measure: Measure) -> Table:
    """cells: (row, column, run). Where several runs fall into one cell it shows their mean."""
    columns = sorted({column for _, column, _ in cells}, key=lambda name: (name == ALL_FRAMES, natural(name)))
    rows = []
    for label in sorted({label for label, _, _ in cells}, key=natural):
        values = [
            _mean(measure.of(run) for row, at, run in cells if (row, at) == (label, column))
            for column in columns
        ]
        rows.append((label, [*values, _mean(values) if None not in values else None]))
    return Table(title, [*columns, "average"], rows, measure)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _kind(run: Mapping[str, Any]) -> str:
    return str(run["source"]["kind"]).partition(",")[0]


def _length(run: Mapping[str, Any]) -> int:
    """Frames asked for; 0 stands for all of them, which is more than any number."""
    return int(run["settings"].get("frames", 0)) or ALL


def _length_text(run: Mapping[str, Any]) -> str:
    return ALL_FRAMES if _length(run) == ALL else f"{_length(run)} frames"


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return flat


def _word(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return "" if value else f"without {words}"
    return f"{words} {value}"
