"""Arguments, and types of arguments, that several commands share."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

LOWEST, HIGHEST = 0.001, 10_000.0  # image rate in Hz
MOST = 1e9  # the largest amount


def image_size(text: str) -> tuple[int, int]:
    """Parse "640x480" into (640, 480), width first."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)


def rate(text: str) -> float:
    """Parse a rate in Hz."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LOWEST <= value <= HIGHEST:  # NaN too
        raise argparse.ArgumentTypeError(f"{text!r}: expected a rate of {LOWEST:g} to {HIGHEST:g} Hz")
    return value


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return value


def amount(text: str) -> float:
    value = amount_or_none(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def amount_or_none(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST:  # NaN too
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to {MOST:g}")
    return value


def angle(text: str) -> float:
    """Parse an angle in radians."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 2 * math.pi:  # NaN too
        raise argparse.ArgumentTypeError(f"{text!r}: expected radians, at most one full turn either way")
    return value


def out_folder(text: str) -> Path:
    """Return a folder that exists or, as far as can be seen, can be created."""
    folder = Path(text)
    for part in (folder, *folder.parents):
        if os.path.exists(part) and not os.path.isdir(part):  # False without permission to look
            raise argparse.ArgumentTypeError(f"{str(part)!r} is not a folder: choose another name")
    return folder


def add_device(parser: argparse.ArgumentParser) -> None:
    import torch  # not at the top: it takes seconds, and some commands do not need it

    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda (default: cuda if there is a GPU)",
    )


def add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="a parameter of the node",
    )


def add_camera(parser: argparse._ActionsContainer) -> None:
    """Add options for what a recording does not say about its camera."""
    parser.add_argument(
        "--camera-info",
        metavar="FILE",
        default="",
        help="calibration, YAML as written by ROS's camera_calibration (default: the recording's own)",
    )
    for name, kind, axes, what in (
        (
            "--camera-xyz",
            float,
            ("X", "Y", "Z"),
            "position of the camera on the robot's base in m (x forward, z up)",
        ),
        (
            "--camera-rpy",
            angle,
            ("R", "P", "Y"),
            "roll, pitch (positive is down) and yaw of the camera's body in rad",
        ),
    ):
        parser.add_argument(
            name,
            nargs=3,
            type=kind,
            metavar=axes,
            default=(),
            help=f"{what}, like the node's frames.{name[2:].replace('-', '_')} (default: a bag's /tf_static)",
        )


def camera_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of Choice that these options set."""
    return {
        "camera_info": args.camera_info,
        "camera_xyz": tuple(args.camera_xyz),
        "camera_rpy": tuple(args.camera_rpy),
    }
