"""Tables that compare several runs, laid out as in papers: a row per method, a column per sequence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from loger_ros.evaluation.report.folder import read_metrics
from loger_ros.evaluation.report.page import document
from loger_ros.evaluation.sources.base import natural
from loger_ros.evaluation.sources.formats import METRICS

MOST_RUNS = 10_000
ALL, ALL_FRAMES = 10**9, "all frames"
DEEPEST = 6  # folders below the given one


@dataclass(frozen=True)
class Measure:
    title: str
    path: tuple[str, ...]  # in metrics.json
    digits: int
    higher: bool = False  # whether higher values are better

    def of(self, metrics: Mapping[str, Any]) -> float | None:
        value: Any = metrics
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


MEASURES = (
    Measure("ATE after Sim(3), RMSE [m]", ("ate", "sim3", "rmse"), 3),
    Measure("ATE after SE(3), RMSE [m]", ("ate", "se3", "rmse"), 3),
    Measure("Causal error, RMSE [m]", ("causal", "rmse"), 3),
    Measure("Drift over pieces of the path, metric [%]", ("segments", "translation_percent"), 2),
    Measure(
        "Drift over pieces of the path, with the scale of Sim(3) [%]",
        ("segments_scaled", "translation_percent"),
        2,
    ),
    Measure("Rotation error over pieces of the path [°/m]", ("segments", "rotation_deg_per_m"), 4),
    Measure("RPE translation, with the scale of Sim(3), RMSE [m]", ("rpe_scaled", "translation", "rmse"), 4),
    Measure("RPE rotation, RMSE [°]", ("rpe", "rotation", "rmse"), 3),
    Measure("AUC@30 of relative poses [%]", ("auc", "30"), 1, higher=True),
    Measure("Depth AbsRel, scaled to equal medians", ("depth", "median_scale", "abs_rel"), 3),
    Measure(
        "Depth δ < 1.25, scaled to equal medians [%]",
        ("depth", "median_scale", "delta1_percent"),
        1,
        higher=True,
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
    runs: Sequence[Sequence[int]]  # how many runs are behind each number of each row

    def best(self, column: int) -> float | None:
        known = [values[column] for _, values in self.rows if values[column] is not None]
        if len(known) < 2:
            return None
        return max(known) if self.measure.higher else min(known)  # type: ignore[type-var]

    def cells(self, row: int) -> list[tuple[str, bool]]:
        """(text, whether it is the best in its column)"""
        values = self.rows[row][1]
        return [
            (self.text(value, count), value is not None and value == self.best(i))
            for i, (value, count) in enumerate(zip(values, self.runs[row], strict=True))
        ]

    def text(self, value: float | None, runs: int = 1) -> str:
        if value is None:
            return "–"  # noqa: RUF001
        return f"{value:.{self.measure.digits}f}" + (f" ({runs} runs)" if runs > 1 else "")

    def html(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *self.columns))
        body = ""
        for row, (label, _) in enumerate(self.rows):
            cells = "".join(
                f"<td{' class=best' if best else ''}>{text}</td>" for text, best in self.cells(row)
            )
            body += f"<tr><td>{escape(label)}</td>{cells}</tr>"
        return f'<h2>{escape(self.title)}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", "| | " + " | ".join(self.columns) + " |"]
        lines.append("|---|" + "---:|" * len(self.columns))
        for row, (label, _) in enumerate(self.rows):
            cells = [f"**{text}**" if best else text for text, best in self.cells(row)]
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
    """One table per kind of recording and measure that any run has; one more by length if lengths differ."""
    named = list(zip(method_labels(runs), sequence_names(runs), runs, strict=True))
    made = []
    for kind in sorted({_kind(run) for run in runs}):
        chosen = [cell for cell in named if _kind(cell[2]) == kind]
        lengths = sorted({_length(run) for _, _, run in chosen})
        for measure in MEASURES:
            if all(measure.of(run) is None for _, _, run in chosen):
                continue
            longest = [cell for cell in chosen if _length(cell[2]) == lengths[-1]]
            if any(measure.of(run) is not None for _, _, run in longest):
                made.append(_table(f"{kind}: {measure.title}", longest, measure))
            if len(lengths) > 1:
                by_length = [(label, _length_text(run), run) for label, _, run in chosen]
                made.append(_table(f"{kind}, by length: {measure.title}", by_length, measure))
    return made


def method_labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for each run: its model, and what sets the run apart.

    These are settings that differ between runs, and choices that differ between runs of one recording.
    """
    models = [str(run["model"]["name"]) for run in runs]
    stems = [Path(model).stem for model in models]
    # Poses made elsewhere have one file per recording, so several files of one name are mostly one method.
    cells = zip(stems, sequence_names(runs), strict=True)
    several = {model for model, run in zip(models, runs, strict=True) if run["settings"]}
    names = _distinct_names(stems, models, several | _meeting(cells, models))
    settings = [
        _flat(run["settings"] | {k: v for k, v in run["model"].items() if k != "name"}) for run in runs
    ]
    choices = [dict(run.get("choice", {})) for run in runs]
    differing = sorted(_differing(settings, [""] * len(runs)) - {"frames"})
    # Recordings may well differ in their topic and truth, so choices are compared within a recording.
    chosen = sorted(_differing(choices, [_path(run) for run in runs]))
    labels = []
    for name, setting, choice in zip(names, settings, choices, strict=True):
        words = [_word(each, setting[each]) for each in differing if each in setting]
        words += [_word(each, choice[each]) for each in chosen if each in choice]
        labels.append(", ".join([name, *filter(None, words)]))
    return labels


def sequence_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run.

    One recording may have different paths on different machines. Paths that one method saw are different
    recordings.
    """
    names, paths = [str(run["source"]["name"]) for run in runs], [_path(run) for run in runs]
    methods = [json.dumps([run["model"], run["settings"]]) for run in runs]
    return _distinct_names(names, paths, _meeting(zip(methods, names, strict=True), paths))


def write_comparison(
    folder: Path, runs: Sequence[Mapping[str, Any]], failures: Mapping[str, str] = {}
) -> Path:
    """Write compare.html and compare.md, and return the path of compare.html."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tables(runs)
    failed = ""
    links = ""
    labels = method_labels(runs)
    named = zip(runs, sequence_names(runs), labels, strict=True)
    reports = [(run["folder"], name, label) for run, name, label in named if "folder" in run]
    if reports:
        items = " · ".join(
            f'<a href="{escape(os.path.relpath(place, folder))}/report.html">'
            f"{escape(name)}</a> ({escape(label)})"
            for place, name, label in reports
        )
        links = f"<p>Reports: {items}</p>"
    if failures:
        items = "".join(
            f"<li><code>{escape(name)}</code> {escape(why)}</li>" for name, why in failures.items()
        )
        failed = f"<h2>What failed</h2><ul class=events>{items}</ul>"
    methods = len(set(labels))
    lead = f"Runs: {len(runs)}. Methods: {methods}. The best value in each column is shown in colour."
    head = f"<h1>Comparison</h1><p class=lead>{lead}</p>"
    page = folder / "compare.html"
    shown = "".join(table.html() for table in made)
    page.write_text(document("Comparison · loger eval", head + links + failed + shown), encoding="utf-8")
    (folder / "compare.md").write_text("\n".join(table.markdown() for table in made), encoding="utf-8")
    return page


def _table(title: str, cells: Sequence[tuple[str, str, Mapping[str, Any]]], measure: Measure) -> Table:
    """cells: (row, column, run). A cell with several runs shows their mean.

    A sequence for which no run has a number, such as one without truth, gets no column and does not affect
    the averages. If all runs were lost on it, its column stays: a method that fails on the hardest sequence
    must not look better for it.
    """
    known = {column for _, column, run in cells if measure.of(run) is not None or _lost(run)}
    columns = sorted(known, key=lambda name: (name == ALL_FRAMES, natural(name)))
    rows, counts = [], []
    for label in sorted({label for label, _, _ in cells}, key=natural):
        found = [
            [
                value
                for row, at, run in cells
                if (row, at) == (label, column) and (value := measure.of(run)) is not None
            ]
            for column in columns
        ]
        values = [_mean(each) for each in found]
        rows.append((label, [*values, _mean(values) if None not in values else None]))
        counts.append([*(len(each) for each in found), 1])
    return Table(title, [*columns, "average"], rows, measure, counts)


def _lost(run: Mapping[str, Any]) -> bool:
    """Whether there is a truth, but it covers too few of the poses."""
    return "with_truth" in run["frames"] and "ate" not in run


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _kind(run: Mapping[str, Any]) -> str:
    return str(run["source"]["kind"]).partition(",")[0]


def _length(run: Mapping[str, Any]) -> int:
    """The number of frames asked for. 0 stands for all of them, which counts as more than any number."""
    return int(run["settings"].get("frames", 0)) or ALL


def _length_text(run: Mapping[str, Any]) -> str:
    return ALL_FRAMES if _length(run) == ALL else f"{_length(run)} frames"


def _path(run: Mapping[str, Any]) -> str:
    return str(run["source"].get("path", run["source"]["name"]))


def _meeting(cells: Iterable[tuple[str, str]], paths: Sequence[str]) -> set[str]:
    """Paths that share a cell with others."""
    found: dict[tuple[str, str], set[str]] = {}
    for cell, path in zip(cells, paths, strict=True):
        found.setdefault(cell, set()).add(path)
    return set().union(*(each for each in found.values() if len(each) > 1))


def _distinct_names(names: Sequence[str], paths: Sequence[str], several: set[str]) -> list[str]:
    """The names. If ``several`` paths share a name, it gets as many parent folders as tell them apart."""
    made = list(names)
    deepest = max((len(Path(path).parts) for path in paths), default=0)
    for depth in range(1, deepest + 1):
        owners: dict[str, set[Path]] = {}
        for name, path in zip(made, paths, strict=True):
            if path in several:
                owners.setdefault(name, set()).add(Path(path))
        for i, path in enumerate(paths):
            if path in several and len(owners[made[i]]) > 1:
                parents = [part for part in Path(path).parent.parts if part != "/"]
                made[i] = "/".join([*parents[-depth:], names[i]]) if depth < deepest else path
    return made


def _differing(values: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> set[str]:
    """Names whose values differ within a group."""
    seen: dict[tuple[str, str], set[str]] = {}
    for each, group in zip(values, groups, strict=True):
        for name, value in each.items():
            seen.setdefault((group, name), set()).add(json.dumps(value))
    return {name for (_, name), found in seen.items() if len(found) > 1}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return flat


def _word(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return "" if value else f"without {words}"
    if value == "":
        return ""
    if isinstance(value, list | tuple):
        value = "x".join(map(str, value))
    return f"{words} {value}"
