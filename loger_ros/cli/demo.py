"""``loger demo``: starts the node, shows what it says of itself and stops it."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds the node may take (default 120)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from loger_ros.ros.demo import demonstrate
    except ImportError as error:
        print(f"The demo needs ROS 2: {error}. `loger doctor` tells what to do.", file=sys.stderr)
        return 1
    return demonstrate(args.timeout)
