"""``loger demo``: a synthetic camera and the node as two processes over DDS, and their results."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from loger_ros.cli.arguments import amount
from loger_ros.evaluation.drive import Drive, picture
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.point_files import read_ply
from loger_ros.model.weights import recommended_by
from loger_ros.world.sequences import PLACES

LEAST_POSES = 3
FILES = {
    "picture.png": "the path from above, estimate and truth; the map from the side and along the path",
    "map.ply": "the map, for CloudCompare, MeshLab or Open3D",
    "trajectory.tum": "the path of the robot, as the node wrote it during the drive",
    "bag": "images, truth, odometry, map and more: ros2 bag play, Foxglove, PlotJuggler",
    "node.log": "the log of the node",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="new folder for the results (default: loger_demo/DATE_TIME)")
    parser.add_argument(
        "--place", choices=PLACES, default="rooms", help="where to drive (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="each number gives another place (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=amount, default=45.0, help="length of the drive (default: %(default)g)"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="images per second (default: %(default)g)")
    parser.add_argument(
        "--checkpoint", default="tiny", help="the network (default: %(default)s, which is included)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        help="seconds a process may take to start (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    try:
        from loger_ros.ros.demo.run import CAMERA_HEIGHT, VOXEL, DemoFailed, Plan, demonstrate
    except ImportError as error:
        print(f"The demo needs ROS 2: {error}. `loger doctor` says what to do.", file=sys.stderr)
        return 1
    folder = args.out or Path("loger_demo") / time.strftime("%Y-%m-%d_%H-%M-%S")
    if folder.exists():
        print(f"{folder} exists: choose a new folder for the results.", file=sys.stderr)
        return 2
    if not (args.seconds > 0 and 0.1 <= args.rate <= 100):
        print("--seconds must be above 0, and --rate from 0.1 to 100.", file=sys.stderr)
        return 2
    try:
        recommended_by(args.checkpoint, "auto", "auto")  # fails before there is a folder
    except (ValueError, OSError) as error:
        print(f"loger demo: {error}", file=sys.stderr)
        return 2
    plan = Plan(args.place, args.seed, args.seconds, args.rate, args.checkpoint, args.timeout)
    try:
        progress = demonstrate(plan, folder)
        drive = Drive.of(read_journal(folder / "trajectory.tum"), progress.truth)
        if len(drive.estimate) < LEAST_POSES:
            raise DemoFailed(f"{len(drive.estimate)} poses were recorded: too few to compare with the truth.")
        print("Drawing ...", flush=True)
        summary = drive.summary()
        scene = drive.scene(read_ply(folder / "map.ply"), 1.5 * VOXEL, CAMERA_HEIGHT)
        picture(scene, summary).save(folder / "picture.png")
    except BrokenPipeError:
        raise
    except DemoFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"loger demo: {folder} cannot be written ({error}): choose another --out", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    print(f"\n{summary}\n\nIn {folder}:")
    for name, text in FILES.items():
        if (folder / name).exists():
            print(f"    {name:<16} {text}")
    return 0
