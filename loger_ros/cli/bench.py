"""``loger bench WHAT``: each benchmark prints what it compared, on what and how often."""

from __future__ import annotations

import argparse
import importlib
import sys

from loger_ros.model.weights import device_name

BENCHMARKS = {
    "clouds": "points to PointCloud2, against the usual way and a bare copy",
    "model": "time, FLOP/s and memory of one model step; variants as ratios in one run",
    "weights": "memory and seconds of loading and converting a full-size checkpoint",
    "node": "what the node costs beside the network, at camera rate, next to a bare Reconstructor",
    "reading": "recordings per second and MB/s, against reading the bare bytes",
    "soak": "the node for an hour with a nasty camera: memory, drops by cause, ages, stalls",
    "stream": "the whole stream against the bare model; memory and time against stream length",
    "world": "rendered frames per second",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="benchmark", required=True, metavar="WHAT")
    for name, summary in BENCHMARKS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        module = importlib.import_module(f"loger_ros.cli.bench_{name}")
        module.add_arguments(subparser)
        subparser.set_defaults(benchmark_run=module.run)


def run(args: argparse.Namespace) -> int:
    try:
        if getattr(args, "device", "cpu") != "cpu":
            args.device = device_name(args.device)
        return int(args.benchmark_run(args))
    except ModuleNotFoundError as error:
        problem = f"{error.name} is missing: `loger doctor` tells what to do"
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        problem = str(error)
    print(f"loger bench {args.benchmark}: {problem}", file=sys.stderr)
    return 1
