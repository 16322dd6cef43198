"""``loger demo``: a synthetic camera and the node as two processes over DDS, and what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from loger_ros.world.sequences import PLACES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, help="folder for the results, a new one (default: loger_demo/DATE_TIME)"
    )
    parser.add_argument("--place", choices=PLACES, default="rooms", help="default: rooms")
    parser.add_argument("--seed", type=int, default=0, help="another number, another place (default: 0)")
    parser.add_argument("--seconds", type=float, default=45.0, help="length of the drive (default: 45)")
    parser.add_argument("--rate", type=float, default=10.0, help="images per second (default: 10)")
    parser.add_argument("--checkpoint", default="tiny", help="the network (default: tiny, which ships)")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds a process may take to start (default: 120)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from loger_ros.ros.demo.run import Plan, demonstrate
    except ImportError as error:
        print(f"The demo needs ROS 2: {error}. `loger doctor` tells what to do.", file=sys.stderr)
        return 1
    folder = args.out or Path("loger_demo") / time.strftime("%Y-%m-%d_%H-%M-%S")
    if folder.exists():
        print(f"{folder} exists: choose a folder that does not, for the results.", file=sys.stderr)
        return 2
    if not (args.seconds > 0 and 0.1 <= args.rate <= 100):
        print("--seconds must be above 0, --rate 0.1 to 100.", file=sys.stderr)
        return 2
    plan = Plan(args.place, args.seed, args.seconds, args.rate, args.checkpoint, args.timeout)
    return demonstrate(plan, folder)
