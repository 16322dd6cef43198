"""Argument types that several commands share."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

LOWEST, HIGHEST = 0.001, 10_000.0  # Hz, of images
MOST = 1e9  # of any amount


def image_size(text: str) -> tuple[int, int]:
    """ "640x480" → (640, 480), width first."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)


def rate(text: str) -> float:
    """Hz."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LOWEST <= value <= HIGHEST:  # also of NaN
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
    if not 0 <= value <= MOST:  # also of NaN
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to {MOST:g}")
    return value


def angle(text: str) -> float:
    """Radians."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 2 * math.pi:  # also of NaN
        raise argparse.ArgumentTypeError(f"{text!r}: expected radians, none of them beyond a whole turn")
    return value


def out_folder(text: str) -> Path:
    """One that is there, or can be made as far as is known."""
    folder = Path(text)
    for part in (folder, *folder.parents):
        if os.path.exists(part) and not os.path.isdir(part):  # False where one may not look
            raise argparse.ArgumentTypeError(f"{str(part)!r} is no folder: choose another name")
    return folder


def add_camera(parser: argparse._ActionsContainer) -> None:
    """What a recording does not tell of its camera."""
    parser.add_argument(
        "--camera-info",
        metavar="FILE",
        default="",
        help="its calibration, YAML as of ROS's camera_calibration (default: the recording's own)",
    )
    for name, kind, axes, what in (
        ("--camera-xyz", float, ("X", "Y", "Z"), "m, where it sits on the robot's base (x ahead, z up)"),
        (
            "--camera-rpy",
            angle,
            ("R", "P", "Y"),
            "rad, roll, pitch (down is positive) and yaw of the camera's body",
        ),
    ):
        parser.add_argument(
            name,
            nargs=3,
            type=kind,
            metavar=axes,
            default=(),
            help=f"{what}, as the node's frames.{name[2:].replace('-', '_')} (default: a bag's /tf_static)",
        )


def camera_of(args: argparse.Namespace) -> dict[str, Any]:
    """→ fields of Choice."""
    return {
        "camera_info": args.camera_info,
        "camera_xyz": tuple(args.camera_xyz),
        "camera_rpy": tuple(args.camera_rpy),
    }
