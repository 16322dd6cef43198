"""The folder of one run. metrics.json is written last: if it exists, everything else is there."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import loger_ros
from loger_ros.evaluation.intrinsics import write_camera
from loger_ros.evaluation.measure import FEWEST, Matched
from loger_ros.evaluation.report.page import run_page
from loger_ros.evaluation.report.plots import HINT, Plots
from loger_ros.evaluation.report.views import cloud_pictures
from loger_ros.evaluation.run import Run, Settings
from loger_ros.evaluation.sources import Source, SourceError
from loger_ros.evaluation.sources.formats import MARK, METRICS
from loger_ros.files import appearing_whole
from loger_ros.mapping.point_files import write_ply
from loger_ros.mapping.trajectory_files import write_tum
from loger_ros.types import Trajectory

PICTURES = (
    *("path_top", "path_side", "errors", "drift", "timing"),
    *("cloud_above", "cloud_aside", "cloud_along"),
)
FILES = (
    *("report.html", "trajectory.txt", "first_reported.txt", "truth.txt", "cloud.ply", "camera.json"),
    *(f"{name}.png" for name in PICTURES),
)
MOST_METRICS = 32 << 20  # bytes; a larger metrics.json is not read


def refuse_another(folder: Path, source: str) -> None:
    """Raise SourceError if the folder holds the results of another recording, whose path may end the same."""
    told, metrics = folder / MARK, read_metrics(folder)
    known = told.read_text().removesuffix("\n") if told.is_file() else ""
    if not known and metrics is not None:
        known = str(metrics["source"].get("path", ""))
    if known and known != named(source):
        raise SourceError(f"{folder} already holds the results of {known}: choose another folder with --out")


def mark(folder: Path, source: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(f"{named(source)}\n")


def named(source: str) -> str:
    """The source as an absolute path if it exists, so that it does not depend on the working directory."""
    return os.path.abspath(source) if Path(source).exists() else source


def write_report(
    folder: Path,
    run: Run,
    metrics: dict[str, Any],
    matched: Matched | None,
    pictures: bool = True,
) -> None:
    mark(folder, metrics["source"]["path"])
    for name in (METRICS, *FILES):  # from an earlier run: its metrics.json would vouch for a mixture of both
        (folder / name).unlink(missing_ok=True)
    write_tum(folder / "trajectory.txt", run.trajectory)
    if len(run.first_reported):
        write_tum(folder / "first_reported.txt", run.first_reported)
    if matched is not None:
        stamps = tuple(int(stamp) for stamp in matched.stamps)
        write_tum(folder / "truth.txt", Trajectory(stamps, matched.truth, (0,) * len(stamps)))
    if len(run.cloud):
        write_ply(folder / "cloud.ply", run.cloud)
    if run.camera is not None:
        write_camera(folder / "camera.json", run.camera, run.camera_is_known)
    shown = _pictures(run, matched, metrics) if pictures else {}
    for name, data in shown.items():
        (folder / f"{name}.png").write_bytes(data)
    with appearing_whole(folder / "report.html") as file:
        file.write(run_page(metrics, shown).encode())
    with appearing_whole(folder / METRICS) as file:
        file.write((json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def _pictures(run: Run, matched: Matched | None, metrics: dict[str, Any]) -> dict[str, bytes]:
    usable = matched if matched is not None and len(matched) >= FEWEST else None
    pictures = {}
    if len(run.cloud):
        voxel = metrics["settings"]["map"]["voxel_size"]
        pictures = cloud_pictures(run, usable, voxel, metrics["source"]["name"])
    try:
        return pictures | Plots(run, usable, metrics).all()
    except ImportError:
        metrics["problems"].append({"name": "no_plots", "count": 1, "message": HINT})
        return pictures


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """The metrics of a finished run, or None if there is none."""
    file = folder / METRICS
    try:
        if file.stat().st_size > MOST_METRICS:
            return None
        values = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    groups = ("source", "model", "settings", "frames")
    complete = isinstance(values, dict) and all(isinstance(values.get(name), dict) for name in groups)
    return values | {"folder": str(folder)} if complete else None


def description(
    source: Source, path: str, model_name: str, settings: Settings, device: str
) -> dict[str, Any]:
    """Recording, model, settings and versions: the part of metrics.json that tells runs apart."""
    return {
        "source": {"name": source.name, "kind": source.kind, "path": named(path), "frames": len(source)},
        "model": {"name": model_name},
        "settings": dataclasses.asdict(settings),
        "made_with": {
            "loger_ros": loger_ros.__version__,
            "torch": torch.__version__,
            "device": _device_name(device),
            "python": platform.python_version(),
        },
    }


def problems_of(source: Source, run: Run) -> list[dict[str, Any]]:
    """Each kind of problem once, with its count and its last message."""
    found = []
    for log in (source.problems, run.events):
        last = {event.name: event.message for event in log.recent}
        found += [
            {"name": name, "count": count, "message": last.get(name, "")}
            for name, count in log.counts.items()
        ]
    return found


def _device_name(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}"
