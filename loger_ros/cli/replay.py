"""``loger replay SOURCE``: run every image of a recording through the real node, or the core alone."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loger_ros.cli.arguments import amount_or_none, out_folder
from loger_ros.cli.eval import add_run_arguments, choice_of, folder_name, job_of
from loger_ros.cli.unread import refuse_unread
from loger_ros.config import ConfigError
from loger_ros.evaluation.evaluate import Job, journal_in, no_poses
from loger_ros.evaluation.progress import Line
from loger_ros.evaluation.report.folder import mark, refuse_another
from loger_ros.evaluation.run import chosen, run_source
from loger_ros.evaluation.sources import Choice, Source, SourceError, open_source
from loger_ros.evaluation.sources.ahead import read_ahead
from loger_ros.mapping.point_files import write_ply
from loger_ros.mapping.trajectory_files import read_tum, write_tum
from loger_ros.model import load_model
from loger_ros.model.weights import recommended_by
from loger_ros.types import Frame

TRAJECTORY, LOG = "trajectory.txt", "node.log"
# A warning or error as ROS logs it.
WARNING = re.compile(r"^\[(?:WARN|ERROR|FATAL)\] \[[\d.]+\] \[[^]]+\]: (.*)$", re.MULTILINE)
MOST_REPORTED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a recording, named as for loger eval")
    parser.add_argument("--core", action="store_true", help="use the reconstruction core alone, without ROS")
    parser.add_argument(
        "--speed",
        type=amount_or_none,
        default=0.0,
        help="multiple of the recording's own speed (default: %(default)g, as fast as possible)",
    )
    parser.add_argument(
        "--out", type=out_folder, default=Path("replay"), help="folder for the results (default: %(default)s)"
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        refuse_unread(args.source, choice_of(args))
        source = open_source(args.source, choice_of(args))
        folder = args.out / folder_name(args.source)
        refuse_another(folder, args.source)
        job = job_of(args, args.source, folder, recommended_by(args.model, args.device, args.dtype))
        _require_mounting(source, job)
        started = time.monotonic()
        with Line(args.source, job.settings.count_of(len(source))) as line:
            if args.core:
                count = _core(source, job, args.speed, line)
            else:
                count = _node(source, job, args.speed, line)
    except (SourceError, ConfigError, ValueError, OSError, RuntimeError) as error:
        print(f"loger replay: {error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    if not args.core:
        print_warnings(folder / LOG)
    poses = len(read_tum(folder / TRAJECTORY))
    print(f"{poses} poses of {count} images in {seconds:.1f} s, {count / seconds:.1f} images/s")
    cloud = "cloud.ply" if (folder / "cloud.ply").exists() else "and the map is empty"
    print(f"{folder}: {TRAJECTORY}, {cloud}. For a report, run:")
    print(
        shlex.join(["loger", "eval", args.source, "--trajectory", str(folder / TRAJECTORY), *_opened(args)])
    )
    return 0


def print_warnings(log: Path) -> None:
    """Print what the node warned of, as ``--core`` does."""
    said = list(dict.fromkeys(WARNING.findall(log.read_text(errors="replace"))))
    for text in said[:MOST_REPORTED]:
        print(text, file=sys.stderr)
    if len(said) > MOST_REPORTED:
        print(f"and {len(said) - MOST_REPORTED} more warnings in {log}", file=sys.stderr)


def _opened(args: argparse.Namespace) -> list[str]:
    """Return the arguments that open the same recording."""
    words = []
    for item in dataclasses.fields(Choice):
        value = getattr(choice_of(args), item.name)
        if value == item.default:
            continue
        if item.name == "size":
            value = "x".join(map(str, value))
        parts = value if isinstance(value, tuple) else (value,)
        words += [f"--{item.name.replace('_', '-')}", *map(str, parts)]
    return words


def _require_mounting(source: Source, job: Job) -> None:
    camera = source.camera if job.settings.undistort else None
    if job.settings.stream.motion == "wheels" and (camera is None or camera.T_base_camera is None):
        raise SourceError(
            "--motion wheels needs to know how the camera is mounted on the vehicle: give a recording with "
            "camera_info (or --camera-info FILE) and /tf_static from base_link to the camera (or "
            "--camera-xyz and --camera-rpy), and leave out --no-undistort"
        )


def _core(source: Source, job: Job, speed: float, line: Line) -> int:
    model = load_model(job.model, device=job.device, dtype=job.dtype)
    paced = _Paced(source, speed) if speed > 0 else source
    with journal_in(job.folder, source.problems) as journal:
        run = run_source(paced, model, job.settings, journal=journal, progress=line.frames)
        if len(run.trajectory):
            mark(job.folder, job.source)
            write_tum(job.folder / TRAJECTORY, run.trajectory)
            write_ply(job.folder / "cloud.ply", run.cloud)
            return len(run.stamps)
    raise no_poses(job, source, run)


def _node(source: Source, job: Job, speed: float, line: Line) -> int:
    try:
        from loger_ros.ros.replay import replay
    except ImportError as error:
        raise SourceError(f"the node needs ROS 2 ({error}): source it, or replay with --core") from error
    settings = job.settings
    if not (settings.fast_weights and settings.sliding_window):
        raise SourceError("the node cannot run without one of its memories: add --core to do so")
    parameters: dict[str, Any] = {
        "model.checkpoint": job.model if not Path(job.model).exists() else str(Path(job.model).absolute()),
        "model.device": job.device,
        "model.dtype": job.dtype,
        "input.undistort": settings.undistort,
    }
    for section in (settings.stream, settings.cloud, settings.map):
        for name, value in dataclasses.asdict(section).items():
            parameters[f"{section.name}.{name}"] = value
    camera = source.camera if settings.undistort else None
    mark(job.folder, job.source)
    frames = read_ahead(chosen(source, settings))
    count = replay(frames, camera, job.folder, parameters, rate=speed, sent=line.frames)
    if not (job.folder / TRAJECTORY).exists() or not len(read_tum(job.folder / TRAJECTORY)):
        raise SourceError(f"none of {count} images of {job.source} got a pose: see {job.folder / LOG}")
    return count


class _Paced:
    """The same recording, played at no more than ``speed`` times its own speed."""

    def __init__(self, source: Source, speed: float) -> None:
        self._source, self._speed = source, speed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def frames(self) -> Iterator[Frame]:
        first, begun = 0, time.monotonic()
        for frame in self._source.frames():
            first = first or frame.stamp
            time.sleep(max(begun + (frame.stamp - first) * 1e-9 / self._speed - time.monotonic(), 0.0))
            yield frame
