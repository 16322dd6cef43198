"""``loger bench WHAT``: each benchmark prints what it compared, on what and how often."""

from __future__ import annotations

import argparse
import importlib
import sys

from loger_ros.model.weights import device_name

BENCHMARKS = {
    "clouds": "time from points to a PointCloud2, compared with the usual way and with a bare copy",
    "model": "time, FLOP/s and memory of one model step; compares variants within one run",
    "weights": "memory and time to load and convert a full-size checkpoint",
    "node": "CPU time of the node without the network, at camera rate, compared with a bare Reconstructor",
    "reading": "frames per second and MB/s of reading recordings, compared with reading the bare bytes",
    "soak": "run the node for an hour with a faulty camera: memory, drops by cause, ages, stalls",
    "stream": "the whole stream compared with the bare model; memory and time over the length of the stream",
    "world": "frames that the renderer makes per second",
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
        problem = f"{error.name} is missing: `loger doctor` says what to do"
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        problem = str(error)
    print(f"loger bench {args.benchmark}: {problem}", file=sys.stderr)
    return 1
