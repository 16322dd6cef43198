"""The synthetic camera's process. Like the node's, it imports little, to handle signals from the start."""

from __future__ import annotations

import sys

from loger_ros.ros.signals import ending_quietly


def main(args: list[str] | None = None) -> int:
    with ending_quietly():
        from loger_ros.ros.synthetic.node import run

        return run(args)


if __name__ == "__main__":
    sys.exit(main())
