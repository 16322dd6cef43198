"""``loger eval SOURCE``: run a recording through the core and report metrics and pictures on one page."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loger_ros.cli.arguments import (
    add_camera,
    add_device,
    amount,
    amount_or_none,
    camera_of,
    image_size,
    out_folder,
    rate,
)
from loger_ros.cli.settings import add_settings, chosen_settings
from loger_ros.cli.unread import refuse_unread
from loger_ros.config import CloudConfig, ConfigError, MapConfig, StreamConfig, cloud_settings_for
from loger_ros.evaluation.association import TOLERANCE
from loger_ros.evaluation.batch import Outcome, Ticker, in_processes
from loger_ros.evaluation.evaluate import Job, evaluate, finished_metrics, judge
from loger_ros.evaluation.measure import CLOUD_THRESHOLD
from loger_ros.evaluation.progress import Line
from loger_ros.evaluation.report.compare import find_runs, tables, write_comparison
from loger_ros.evaluation.report.folder import refuse_another
from loger_ros.evaluation.run import Settings
from loger_ros.evaluation.sources import Choice, SourceError, find_sources, named_path, open_source
from loger_ros.model import load_model
from loger_ros.model.weights import device_name, dtype_name, recommended_by
from loger_ros.world.named_sets import NAMED_SETS

ENGINES = ("processes", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        help="a bag, a dataset's sequence, a folder, a video, or a name such as robot_rooms/0",
    )
    parser.add_argument(
        "--trajectory", metavar="FILE", type=Path, help="judge these poses (TUM) instead of running the model"
    )
    parser.add_argument(
        "--all", metavar="DIR", help="evaluate every recording below a folder, or of a synthetic set"
    )
    parser.add_argument(
        "--compare", metavar="DIR", nargs="+", type=Path, help="put finished runs side by side"
    )
    parser.add_argument(
        "--out", type=out_folder, default=Path("eval"), help="folder for the reports (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="with --all: recordings evaluated at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="processes",
        help="with --all: what runs the recordings (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="with --all: also run what is already finished")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="tiny",
        help="tiny, loger, loger_star or a checkpoint's path (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument(
        "--dtype", default="auto", help="dtype of the network (default: %(default)s, as the node chooses)"
    )
    parser.add_argument(
        "--frames", type=int, default=0, metavar="N", help="use at most N frames (default: all)"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="use one frame in N (default: %(default)s)"
    )
    parser.add_argument(
        "--no-fast-weights", action="store_true", help="switch off this memory of the network"
    )
    parser.add_argument(
        "--no-sliding-window", action="store_true", help="switch off this memory of the network"
    )
    parser.add_argument(
        "--no-undistort", action="store_true", help="use the images of distorting lenses as they are"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write only metrics, trajectory and cloud")
    recording = parser.add_argument_group("the recording")
    recording.add_argument("--topic", default="", help="topic of the images in a bag (default: guessed)")
    recording.add_argument(
        "--truth", default="", help="true poses: a topic of the bag, or a TUM or KITTI file"
    )
    recording.add_argument(
        "--truth-frame",
        default="",
        help="frame that the true poses describe, from which a bag's /tf_static leads to the camera "
        "(default: the one they name; in a file: the camera)",
    )
    recording.add_argument(
        "--depth", metavar="TOPIC", default="", help="topic of true depth in a bag, aligned with the images"
    )
    recording.add_argument("--camera", default="", help="camera of a dataset to use (default: the first)")
    add_camera(recording)
    recording.add_argument(
        "--rate",
        type=rate,
        default=0.0,
        help="Hz of images without stamps (default: a video's own, else 10)",
    )
    recording.add_argument(
        "--size", type=image_size, default=Choice.size, help="WIDTHxHEIGHT of a synthetic sequence's images"
    )
    recording.add_argument(
        "--tolerance",
        type=amount_or_none,
        default=TOLERANCE * 1e-6,
        help="most ms between the stamps of a pose and its true pose (default: 20)",
    )
    recording.add_argument(
        "--cloud-threshold",
        type=amount,
        default=CLOUD_THRESHOLD,
        help="distance in m for the F-score of the cloud (default: 0.1)",
    )
    add_settings(parser, StreamConfig)
    add_settings(parser, CloudConfig, "cloud-")
    add_settings(parser, MapConfig, "map-")


def choice_of(args: argparse.Namespace) -> Choice:
    return Choice(
        args.topic,
        args.truth,
        args.truth_frame,
        args.depth,
        args.camera,
        size=args.size,
        rate=args.rate,
        **camera_of(args),
    )


def job_of(args: argparse.Namespace, source: str, folder: Path, recommended: dict[str, Any]) -> Job:
    if args.frames < 0 or args.every < 1:
        raise SourceError("--frames must be 0 (all) or more, --every 1 or more")
    stream = chosen_settings(args, StreamConfig, recommended)
    _warn_once(stream.unlike(recommended))
    settings = Settings(
        stream,
        chosen_settings(args, CloudConfig, cloud_settings_for(stream)),
        chosen_settings(args, MapConfig),
        fast_weights=not args.no_fast_weights,
        sliding_window=not args.no_sliding_window,
        undistort=not args.no_undistort,
        frames=args.frames,
        every=args.every,
    )
    return Job(
        source,
        folder,
        args.model,
        settings,
        choice_of(args),
        round(args.tolerance * 1e6),
        args.cloud_threshold,
        device_name(args.device),
        dtype_name(args.dtype, args.device),
        not args.no_pictures,
    )


@functools.cache
def _warn_once(warning: str) -> None:
    """Log it once, not again for each recording."""
    if warning:
        logging.getLogger(__name__).warning(warning)


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if sum(bool(choice) for choice in (args.source, args.all, args.compare)) != 1:
            raise SourceError(
                "give one of these: loger eval SOURCE, loger eval --all DIR, loger eval --compare DIR ..."
            )
        if args.trajectory and not args.source:
            raise SourceError("--trajectory judges the poses of one SOURCE: give that SOURCE")
        if not args.all and (args.jobs, args.engine) != (1, ENGINES[0]):
            raise SourceError("--jobs and --engine have no effect without --all: leave them out")
        if args.compare:
            return _compare(args)
        return _many(args) if args.all else _one(args)
    except KeyboardInterrupt:
        if args.all and not args.again:
            print("\nThe same command continues where this one stopped.", file=sys.stderr)
        raise
    except BrokenPipeError:
        raise
    except (SourceError, ConfigError, ValueError, OSError) as error:
        print(f"loger eval: {error}", file=sys.stderr)
        return 2


def _one(args: argparse.Namespace) -> int:
    refuse_unread(args.source, choice_of(args))
    folder = args.out / folder_name(args.source)
    if args.trajectory:
        job = job_of(args, args.source, folder.with_name(f"{folder.name}_{args.trajectory.stem}"), {})
        print(summary(judge(job, args.trajectory)))
        print(job.folder / "report.html")
        return 0
    refuse_another(folder, args.source)  # fails before the network is loaded
    source = open_source(args.source, choice_of(args))
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    job = job_of(args, args.source, folder, model.recommended)
    with Line(args.source) as line:
        metrics = evaluate(job, model, line.frames, source)
    print(summary(metrics))
    print(folder / "report.html")
    return 0


def _many(args: argparse.Namespace) -> int:
    """Each recording in turn or several at once; finished ones are not run again."""
    if args.jobs < 1:
        raise SourceError("--jobs must be 1 or more")
    recommended = recommended_by(args.model, args.device, args.dtype)  # an error is reported once
    jobs = [job_of(args, source, args.out / name, recommended) for source, name in sources_of(args.all)]
    if not jobs:
        raise SourceError(f"no recording was found below {args.all}")
    runs = [] if args.again else [done for job in jobs if (done := finished_metrics(job)) is not None]
    open_jobs = jobs if args.again else [job for job in jobs if finished_metrics(job) is None]
    print(f"recordings: {len(jobs)}, already finished: {len(runs)}")
    failures = {}
    with Line(args.all, _frames_of(open_jobs)) as line:
        taken = 0

        def tick(running: int) -> None:
            line.frames(taken + running)

        for outcome in engine(args.engine)(open_jobs, args.jobs, tick):
            if outcome.metrics is None:
                failures[outcome.job.source] = outcome.error
                line.say(f"{outcome.job.source} failed: {outcome.error}")
                continue
            runs.append(outcome.metrics)
            taken += outcome.metrics["frames"]["taken"]
            line.say(f"[{len(runs) + len(failures)} of {len(jobs)}] {summary(outcome.metrics)}")
    print(write_comparison(args.out, runs, failures))
    return 1 if failures else 0


def _compare(args: argparse.Namespace) -> int:
    missing = [str(folder) for folder in args.compare if not folder.is_dir()]
    if missing:
        raise SourceError(f"{', '.join(missing)}: no such folder")
    runs = find_runs(args.compare)
    if not runs:
        raise SourceError(f"there is no finished run (metrics.json) below {' '.join(map(str, args.compare))}")
    print("\n".join(table.markdown() for table in tables(runs)[:2]))
    print(write_comparison(args.out, runs))
    return 0


def engine(name: str) -> Callable[[Sequence[Job], int, Ticker], Iterator[Outcome]]:
    if name == "processes":
        return in_processes
    from loger_ros.evaluation.ray_engine import with_ray

    return with_ray


def sources_of(text: str) -> list[tuple[str, str]]:
    """Return (source, name) of every recording below a folder, or of a synthetic set."""
    if not Path(text).exists() and text in NAMED_SETS:
        return [(f"{text}/{i}", f"{text}_{i}") for i in range(len(NAMED_SETS[text][1]))]
    folder = Path(text)
    if not folder.is_dir():
        raise SourceError(f"{text} is neither a folder nor a synthetic set ({', '.join(NAMED_SETS)})")
    found: dict[str, Path] = {}
    for path in find_sources(folder):
        name = "_".join(path.relative_to(folder).parts) or named_path(path).name
        if name in found:
            raise SourceError(f"{found[name]} and {path} would both be called {name}: rename one of them")
        found[name] = path
    return [(str(path), name) for name, path in found.items()]


def _frames_of(jobs: list[Job]) -> int:
    """Return the number of frames to expect, as far as it is known."""
    total = 0
    log = logging.getLogger("loger_ros.evaluation")
    log.disabled = True  # each job reports what its recording lacks
    try:
        for job in jobs:
            with contextlib.suppress(SourceError, OSError):
                total += job.settings.count_of(len(open_source(job.source, job.choice)))
    finally:
        log.disabled = False
    return total


def folder_name(source: str) -> str:
    """The last two parts of a path: the sequence and what it belongs to."""
    parts = [part for part in named_path(source).parts if part not in ("/", ".", "..")]
    return "_".join(parts[-2:]) or "run"


def summary(metrics: dict[str, Any]) -> str:
    frames = metrics["frames"]
    text = f"{metrics['source']['name']}: {frames['posed']} of {frames['taken']} frames posed"
    if "ate" in metrics:
        ate = metrics["ate"]
        text += (
            f", path {metrics['path_m']:.1f} m, ATE {ate['se3']['rmse']:.3f} m SE(3), "
            f"{ate['sim3']['rmse']:.3f} m Sim(3), scale {ate['sim3']['scale']:.3f}"
        )
    rate = metrics["time"].get("frames_per_second")
    return text + (f", {rate:.1f} frames/s" if rate else "")
