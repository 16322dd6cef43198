"""``loger export FORMAT FROM TO``: write a recording or a result of loger eval for other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from loger_ros.cli.arguments import add_camera, camera_of, image_size
from loger_ros.cli.unread import refuse_unread
from loger_ros.evaluation.evaluate import choice_of_run, settings_of_run
from loger_ros.evaluation.export.bags import write_result_bag, write_source_bag
from loger_ros.evaluation.export.colmap import write_colmap
from loger_ros.evaluation.export.folders import write_kitti_source, write_tum_source
from loger_ros.evaluation.export.place import new_file
from loger_ros.evaluation.intrinsics import read_camera
from loger_ros.evaluation.progress import Line
from loger_ros.evaluation.report.folder import read_metrics
from loger_ros.evaluation.sources import Choice, SourceError, open_source
from loger_ros.evaluation.sources.formats import METRICS
from loger_ros.files import appearing_folder
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.point_files import read_ply, write_pcd, write_ply
from loger_ros.mapping.trajectory_files import read_tum, write_kitti, write_tum

FORMATS = ("bag", "tum", "kitti", "ply", "pcd", "colmap")
OF_CLOUDS = ("ply", "pcd")
OF_RESULTS = (*OF_CLOUDS, "colmap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "format",
        choices=FORMATS,
        help="bag (rosbag2), tum, kitti: of a recording or a result; ply, pcd, colmap: of a result only",
    )
    parser.add_argument("source", metavar="FROM", help="the folder of a loger eval result, or a recording")
    parser.add_argument("to", metavar="TO", type=Path, help="a file or folder that does not exist yet")
    parser.add_argument("--topic", default="", help="topic of the images in a bag (default: guessed)")
    parser.add_argument("--truth", default="", help="true poses: a topic of the bag, or a TUM or KITTI file")
    add_camera(parser)
    parser.add_argument(
        "--size", type=image_size, default=Choice.size, help="WIDTHxHEIGHT of a synthetic sequence's images"
    )


def run(args: argparse.Namespace) -> int:
    try:
        _refuse_other_ending(args.format, args.to)
        metrics = read_metrics(Path(args.source))
        with Line(args.source) as line:
            if metrics is not None:
                _result(args.format, Path(args.source), metrics, args.to, line.frames)
            else:
                _recording(args, line.frames)
    except (SourceError, ValueError, OSError) as error:
        print(f"loger export: {error}", file=sys.stderr)
        return 2
    print(args.to)
    return 0


def _refuse_other_ending(kind: str, to: Path) -> None:
    told = to.suffix.lower().removeprefix(".")
    if kind in OF_CLOUDS and told in OF_CLOUDS and told != kind:
        raise ValueError(
            f"{to} would contain {kind.upper()}: name it {to.with_suffix('.' + kind)}, or export {told}"
        )


def _recording(args: argparse.Namespace, progress: Callable[[int], None]) -> None:
    if args.format in OF_RESULTS:
        raise SourceError(_no_result(args.format, Path(args.source)))
    choice = Choice(args.topic, args.truth, size=args.size, **camera_of(args))
    refuse_unread(args.source, choice)
    source = open_source(args.source, choice)
    write = {"bag": write_source_bag, "tum": write_tum_source, "kitti": write_kitti_source}[args.format]
    with appearing_folder(args.to) as folder:
        write(source, folder, progress)


def _no_result(kind: str, folder: Path) -> str:
    inside = sorted(file.parent for file in folder.glob(f"*/{METRICS}"))
    if inside:
        return f"{folder} is not a result but contains some: name one, such as {inside[0]}"
    what = "is not a result" if folder.exists() else "does not exist"
    return f"{folder} {what}: {kind} needs a result of loger eval"


def _result(
    kind: str, folder: Path, metrics: dict[str, Any], to: Path, progress: Callable[[int], None]
) -> None:
    trajectory = read_tum(folder / "trajectory.txt")
    if kind == "tum":
        write_tum(new_file(to), trajectory)
    elif kind == "kitti":
        write_kitti(new_file(to), trajectory)
    elif kind == "bag":
        with appearing_folder(to) as made:
            write_result_bag(trajectory, _cloud(folder), made)
    elif kind == "colmap":
        if not metrics["settings"]:
            raise SourceError(
                f"the poses of {folder} were made elsewhere: colmap needs the images and points of a "
                "run of loger eval"
            )
        choice = replace(choice_of_run(metrics), truth="", truth_frame="")  # neither is needed
        source = open_source(metrics["source"]["path"], choice)
        camera = read_camera(folder / "camera.json")
        settings, cloud = settings_of_run(metrics), _cloud(folder)
        with appearing_folder(to) as made:
            write_colmap(source, settings, trajectory, cloud, camera, made, progress)
    else:
        cloud = _cloud(folder)
        if cloud is None:
            raise SourceError(
                f"{folder} has no cloud.ply: its poses were made elsewhere, or no point was good enough "
                "(lower --cloud-min-confidence of loger eval)"
            )
        (write_ply if kind == "ply" else write_pcd)(new_file(to), cloud)


def _cloud(folder: Path) -> Cloud | None:
    file = folder / "cloud.ply"
    return read_ply(file) if file.exists() else None
