"""The ``loger`` command line: one module per command, imported only when its command is called.

A command module offers ``add_arguments(parser)`` and ``run(args) -> int`` (the exit code). A module that
reports OSErrors must let BrokenPipeError pass: ``main`` handles it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from loger_ros.inventory import OPENCV_CURE

STOPPED = 130  # exit code of an interrupted command
READER_GONE = 141  # exit code if the reader of the output has closed the pipe
COMMANDS = {
    "demo": "run the demo: a synthetic robot drives, and the node's odometry is compared with the truth",
    "doctor": "check what this machine has and whether the node can run on it",
    "parameters": "print every parameter of the node, as a YAML file to start from or as a page to read",
    "weights": "fetch, verify, convert and average checkpoints",
    "bench": "measure the model, its loading, the stream, point clouds, the node, readers or the renderer",
    "world": "preview and export procedural scenes",
    "assess": "compare a model with its goals and with every baseline",
    "train": "train a model on procedural scenes",
    "eval": "turn a recording into a trajectory, a map, metrics and pictures",
    "export": "write a recording or a result for other tools: bag, TUM, KITTI, PLY, PCD, COLMAP",
    "replay": "run a recording through the real node, or through the core alone",
}


def main(argv: Sequence[str] | None = None) -> int:
    try:
        code = _called(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\nloger: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader has closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except RuntimeError as error:
        if not _of_gpu(error):
            raise
        return 1


def _of_gpu(error: RuntimeError) -> bool:
    """Whether the GPU caused the error; if so, print it in one line, since a traceback adds nothing."""
    if "torch" not in sys.modules:  # importing it takes seconds, and some commands do not need it
        return False
    from loger_ros.failures import is_of_gpu, reason_of

    if found := is_of_gpu(error):
        print(f"loger: {reason_of(error)}", file=sys.stderr)
    return found


def _called(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="loger", description="Camera-only odometry and mapping.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name == called:
            try:
                module = importlib.import_module(f"loger_ros.cli.{name}")
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("loger_ros"):
                    raise
                what = (
                    f"OpenCV, which is missing: {OPENCV_CURE}"
                    if error.name == "cv2"
                    else f"{error.name}, which is missing: `loger doctor` says what to do"
                )
                print(f"loger {name} needs {what}", file=sys.stderr)
                return 2
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    return int(args.run(args))
