"""``loger bench clouds``: what a PointCloud2 costs; loger_ros/ros/bench/clouds.py says how it is measured."""

from __future__ import annotations

import argparse
import sys

from loger_ros.cli.arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--points", type=positive, default=1_000_000, help="points per cloud (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=positive, default=25, help="times that each is measured (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from loger_ros.ros.bench.clouds import measure, measure_map
    except ImportError as error:
        print(f"This benchmark needs ROS 2: {error}. `loger doctor` says what to do.", file=sys.stderr)
        return 1
    print(measure(args.points, args.rounds))
    print(measure_map(args.points, args.rounds))
    return 0
