"""The report of one run as a self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #5d6675; --line: #dfe3ea;
  --paper: #f7f8fa; --accent: #c2381f; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 18px; margin: 34px 0 10px; }
p.lead { color: var(--soft); margin: 0 0 18px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.card b { display: block; font-size: 22px; } .card span { color: var(--soft); font-size: 13px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px; }
.pictures img { width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
td.best { color: var(--accent); font-weight: 700; }
ul.events { background: #fff6e8; border: 1px solid #ecd3a4; border-radius: 8px;
  padding: 10px 14px 10px 30px; }
summary { font-size: 18px; font-weight: 700; margin: 34px 0 10px; cursor: pointer; }
code { font-size: 13px; } footer { color: var(--soft); font-size: 13px; margin-top: 34px; }
@media (max-width: 480px) { .pictures { grid-template-columns: 1fr; } }
"""

# Problems with a ground truth that exists but cannot be used.
NO_USE = ("truth_does_not_match", "truth_unusable", "unreadable_truth", "no_truth")
MODES = {"none": "first pose only", "se3": "SE(3)", "sim3": "Sim(3)"}


def number(value: Any, digits: int = 3, unit: str = "") -> str:
    if value is None:
        return "&ndash;"
    return f"{value:.{digits}f}{unit}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The cells must already be HTML."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def document(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def run_page(metrics: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    source, model = metrics["source"], metrics["model"]
    head = (
        f"<h1>{escape(source['name'])}</h1>"
        f"<p class=lead>{escape(source['kind'])} · model {escape(model['name'])}"
        f" · {escape(_in_words(metrics['settings']))}</p>"
    )
    body = (
        head
        + _cards(metrics)
        + _events(metrics)
        + _pictures(pictures)
        + _tables(metrics)
        + _settings(metrics)
    )
    return document(f"{source['name']} · loger eval", body)


def _cards(metrics: Mapping[str, Any]) -> str:
    frames, ate = metrics["frames"], metrics.get("ate", {})
    cards = [("frames with a pose", f"{frames['posed']} / {frames['taken']}")]
    if ate:
        cards += [
            ("path length", number(metrics["path_m"], 1, " m")),
            ("ATE, Sim(3), RMSE", number(ate["sim3"]["rmse"], 3, " m")),
            ("ATE, SE(3), RMSE", number(ate["se3"]["rmse"], 3, " m")),
            ("drift (metric)", number(metrics["segments"]["translation_percent"], 2, " %")),
            ("scale to the ground truth", number(ate["sim3"]["scale"], 3, " &times;")),
        ]
    rate, memory = metrics["time"].get("frames_per_second"), metrics["memory_mb"].get("host")
    if rate is not None:
        cards += [("frames per second", number(rate, 1)), ("peak memory", number(memory, 0, " MB"))]
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{value}</b><span>{label}</span></div>' for label, value in cards)
        + "</div>"
    )


def _events(metrics: Mapping[str, Any]) -> str:
    problems = metrics.get("problems", [])
    if not problems:
        return ""
    lines = "".join(
        f"<li><code>{escape(item['name'])}</code> ({item['count']}&times;): {escape(item['message'])}</li>"
        for item in problems
    )
    return f"<h2>What went wrong</h2><ul class=events>{lines}</ul>"


def _pictures(pictures: Mapping[str, bytes]) -> str:
    if not pictures:
        return ""
    shown = "".join(
        f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in pictures.items()
    )
    return f'<h2>Pictures</h2><div class="pictures">{shown}</div>'


def _tables(metrics: Mapping[str, Any]) -> str:
    if "ate" not in metrics:
        return f"<h2>Errors</h2><p>{_why_no_errors(metrics)}</p>"
    statistics = ("rmse", "mean", "median", "max")
    parts = ["<h2>Absolute trajectory error [m]</h2>"]
    rows = [
        [MODES[mode], *(number(values[key], 4) for key in statistics), number(values["scale"], 4)]
        for mode, values in metrics["ate"].items()
    ]
    causal = metrics.get("causal", {})
    if "rmse" in causal:
        rows.append(["causal (as first reported)", *(number(causal[key], 4) for key in statistics), "1.0000"])
    parts.append(table(("alignment", "RMSE", "mean", "median", "max", "scale"), rows))
    within = f"{metrics['tolerance_ms']:g} ms"
    parts.append(f"<p>{metrics['frames']['with_truth']} poses have a true pose within {within}.</p>")
    parts.append("<h2>Relative errors</h2>")
    rpe, scaled = metrics["rpe"], metrics["rpe_scaled"]
    rows = [
        ["translation per frame [m]", *(number(rpe["translation"][key], 5) for key in statistics)],
        ["… with the scale of Sim(3)", *(number(scaled["translation"][key], 5) for key in statistics)],
        ["rotation per frame [°]", *(number(rpe["rotation"][key], 4) for key in statistics)],
    ]
    parts.append(table(("RPE", "RMSE", "mean", "median", "max"), rows))
    parts += [_segments(metrics), _left_out(metrics)]
    areas = metrics["auc"]
    text = ", ".join(f"AUC@{key} {number(value, 1, ' %')}" for key, value in areas.items() if key != "pairs")
    parts.append(f"<p>Relative poses of {areas['pairs']} pairs of frames: {text}.</p>")
    if causal.get("age_s"):
        age = causal["age_s"]
        parts.append(
            f"<p>On average, a frame waited {age['mean']:.2f} s for its first pose; the longest wait was "
            f"{age['max']:.2f} s.</p>"
        )
    parts += [_depth(metrics), _cloud(metrics)]
    return "".join(parts)


def _why_no_errors(metrics: Mapping[str, Any]) -> str:
    names = [item["name"] for item in metrics.get("problems", []) if item["name"] in NO_USE]
    if names:
        return (
            f"The poses could not be compared with the ground truth: see <code>{names[0]}</code> under "
            "“What went wrong”."
        )
    return "There is no ground truth to compare with. Give one with <code>--truth</code>."


def _segments(metrics: Mapping[str, Any]) -> str:
    raw, scaled = metrics["segments"]["by_length"], metrics["segments_scaled"]["by_length"]
    rows = [
        [
            f"{row['length']:g} m",
            number(row["translation_percent"], 2),
            number(other["translation_percent"], 2),
            number(row["rotation_deg_per_m"], 4),
            str(row["pieces"]),
        ]
        for row, other in zip(raw, scaled, strict=True)
    ]
    head = (
        "piece length",
        "translation (metric), %",
        "… with the scale of Sim(3), %",
        "rotation, °/m",
        "pieces",
    )
    return "<h2>Drift over pieces of the path</h2>" + table(head, rows) if rows else ""


def _left_out(metrics: Mapping[str, Any]) -> str:
    steps, pieces = metrics["rpe"]["left_out"], metrics["segments"]["left_out"]
    if not steps:
        return ""
    return (
        "<p>The poses or the ground truth have gaps. Errors that would span a gap are left out (steps from "
        f"frame to frame: {steps}, pieces of the path: {pieces}).</p>"
    )


def _depth(metrics: Mapping[str, Any]) -> str:
    if "depth" not in metrics:
        return ""
    names = {
        "metric": "none (metric)",
        "trajectory_scale": "scale of the trajectory",
        "median_scale": "equal medians",
    }
    rows = [
        [
            label,
            number(values.get("abs_rel"), 4),
            number(values.get("delta1_percent"), 1),
            number(values.get("scale"), 3),
        ]
        for key, label in names.items()
        if (values := metrics["depth"].get(key))
    ]
    return "<h2>Depth</h2>" + table(("scaling", "AbsRel", "δ < 1.25, %", "scale"), rows)


def _cloud(metrics: Mapping[str, Any]) -> str:
    clouds = {mode: values for mode, values in metrics.get("cloud", {}).items() if values}
    if not clouds:
        return ""
    keys = ("accuracy", "completeness", "chamfer", "precision_percent", "recall_percent", "f_score_percent")
    rows = [[MODES[mode], *(number(values[key], 3) for key in keys)] for mode, values in clouds.items()]
    threshold = next(iter(clouds.values()))["threshold"]
    head = ("alignment", "accuracy, m", "completeness, m", "Chamfer, m", "precision, %", "recall, %", "F, %")
    return f"<h2>Cloud (threshold {threshold:g} m)</h2>" + table(head, rows)


def _settings(metrics: Mapping[str, Any]) -> str:
    if not metrics["settings"]:
        return ""
    rows = [
        [f"{group}.{name}" if isinstance(values, Mapping) else group, escape(str(value))]
        for group, values in metrics["settings"].items()
        for name, value in (values.items() if isinstance(values, Mapping) else [("", values)])
    ]
    facts = metrics.get("made_with", {})
    made = " · ".join(f"{escape(str(key))} {escape(str(value))}" for key, value in facts.items())
    shown = table(("setting", "value"), rows)
    return f"<details><summary>Settings</summary>{shown}</details><footer>{made}</footer>"


def _in_words(settings: Mapping[str, Any]) -> str:
    if "stream" not in settings:
        return "a trajectory made elsewhere"
    stream = settings["stream"]
    words = [
        f"chunks of {stream['chunk_size']} frames, {stream['overlap']} shared",
        f"alignment {stream['alignment']}",
        *(["on wheels"] if stream.get("motion") == "wheels" else []),
        f"resolution {stream['resolution']}",
    ]
    words += [
        f"without {name}" for name in ("fast_weights", "sliding_window") if not settings.get(name, True)
    ]
    return ", ".join(words).replace("_", " ")
