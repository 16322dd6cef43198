"""``loger eval SOURCE``: a recording through the core, to numbers, pictures and one page."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from loger_ros.cli.arguments import image_size
from loger_ros.cli.settings import add_settings, chosen_settings
from loger_ros.config import CloudConfig, ConfigError, MapConfig, StreamConfig
from loger_ros.evaluation.association import TOLERANCE
from loger_ros.evaluation.evaluate import Job, evaluate
from loger_ros.evaluation.measure import CLOUD_THRESHOLD
from loger_ros.evaluation.progress import Line
from loger_ros.evaluation.run import Settings
from loger_ros.evaluation.sources import Choice, SourceError, open_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        help="a bag, a dataset's sequence, a folder, a video, or a name such as robot_rooms/0",
    )
    parser.add_argument("--out", type=Path, default=Path("eval"), help="where reports go (default: eval)")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="tiny", help="tiny, loger, loger_star or a checkpoint (default: tiny)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", help="of the network (default: float32)")
    parser.add_argument("--frames", type=int, default=0, help="take at most so many frames (default: all)")
    parser.add_argument("--every", type=int, default=1, help="take one frame of every so many (default: 1)")
    parser.add_argument("--no-fast-weights", action="store_true", help="without this memory")
    parser.add_argument("--no-sliding-window", action="store_true", help="without this memory")
    parser.add_argument(
        "--no-undistort", action="store_true", help="take images of distorting lenses as they are"
    )
    parser.add_argument("--no-pictures", action="store_true", help="numbers, trajectory and cloud only")
    recording = parser.add_argument_group("the recording")
    recording.add_argument("--topic", default="", help="images in a bag (default: guessed)")
    recording.add_argument("--truth", default="", help="a topic of the bag, or a TUM or KITTI file")
    recording.add_argument(
        "--truth-frame", default="", help="what a bag's true poses are of (default: as they say)"
    )
    recording.add_argument("--camera", default="", help="which camera of a dataset (default: the first)")
    recording.add_argument(
        "--rate", type=float, default=10.0, help="Hz where images have no stamps (default: 10)"
    )
    recording.add_argument("--size", type=image_size, default=Choice.size, help="of a synthetic sequence")
    recording.add_argument(
        "--tolerance", type=float, default=TOLERANCE * 1e-6, help="ms between pose and truth (default: 20)"
    )
    recording.add_argument(
        "--cloud-threshold", type=float, default=CLOUD_THRESHOLD, help="m, of the F-score (default: 0.1)"
    )
    add_settings(parser, StreamConfig)
    add_settings(parser, CloudConfig, "cloud-")
    add_settings(parser, MapConfig, "map-")


def job_of(args: argparse.Namespace, source: str, folder: Path, recommended: dict[str, Any]) -> Job:
    if args.frames < 0 or args.every < 1:
        raise SourceError("--frames must be 0 (all) or more, --every 1 or more")
    settings = Settings(
        chosen_settings(args, StreamConfig, recommended),
        chosen_settings(args, CloudConfig),
        chosen_settings(args, MapConfig),
        fast_weights=not args.no_fast_weights,
        sliding_window=not args.no_sliding_window,
        undistort=not args.no_undistort,
        frames=args.frames,
        every=args.every,
    )
    choice = Choice(args.topic, args.truth, args.truth_frame, args.camera, args.size, args.rate)
    return Job(
        source,
        folder,
        args.model,
        settings,
        choice,
        round(args.tolerance * 1e6),
        args.cloud_threshold,
        args.device,
        args.dtype,
        not args.no_pictures,
    )


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return _one(args)
    except (SourceError, ConfigError, ValueError, OSError) as error:
        print(f"loger eval: {error}", file=sys.stderr)
        return 2


def _one(args: argparse.Namespace) -> int:
    from loger_ros.model import load_model

    if args.source is None:
        raise SourceError("say what to evaluate: loger eval SOURCE")
    folder = args.out / folder_name(args.source)
    open_source(
        args.source, job_of(args, args.source, folder, {}).choice
    )  # what is amiss is told before the wait
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    job = job_of(args, args.source, folder, getattr(model, "recommended", {}))
    with Line(args.source) as line:
        metrics = evaluate(job, model, line.frames)
    print(summary(metrics))
    print(folder / "report.html")
    return 0


def folder_name(source: str) -> str:
    """The last two parts of a path: the sequence and what it belongs to."""
    parts = [part for part in Path(source).parts if part not in ("/", ".", "..")]
    return "_".join(parts[-2:]) or "run"


def summary(metrics: dict[str, Any]) -> str:
    frames = metrics["frames"]
    text = f"{metrics['source']['name']}: {frames['posed']} of {frames['taken']} frames posed"
    if "ate" in metrics:
        ate = metrics["ate"]
        text += (
            f", way {metrics['path_m']:.1f} m, ATE {ate['se3']['rmse']:.3f} m SE(3), "
            f"{ate['sim3']['rmse']:.3f} m Sim(3), scale {ate['sim3']['scale']:.3f}"
        )
    rate = metrics["time"].get("frames_per_second")
    return text + (f", {rate:.1f} frames/s" if rate else "")
