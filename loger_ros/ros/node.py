"""The node's process. Light, so that a signal is heard in the seconds that importing the rest takes."""

from __future__ import annotations

import sys

from loger_ros.ros.signals import ending_quietly


def main(args: list[str] | None = None) -> int:
    with ending_quietly():
        from loger_ros.ros.loger_node import run

        return run(args)


if __name__ == "__main__":
    sys.exit(main())
