"""``loger parameters``: print every parameter of the node, as a YAML file to start from or as a page."""

from __future__ import annotations

import argparse

from loger_ros.ros.reference import parameters_markdown, parameters_yaml

FORMATS = {"yaml": parameters_yaml, "markdown": parameters_markdown}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "format", nargs="?", choices=FORMATS, default="yaml", help="output format (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    print(FORMATS[args.format](), end="")
    return 0
