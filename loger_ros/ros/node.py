"""The node's process. Imports little, so that signals are handled while the rest is imported, for seconds."""

from __future__ import annotations

import sys

from loger_ros.ros.signals import ending_quietly

ABOUT = """\
loger_node: images in; odometry, TF and clouds out. A lifecycle node.

    ros2 run loger_ros loger_node --ros-args -r image:=/camera/image_raw -p stream.unit:=0.4
    ros2 run loger_ros loger_node --ros-args --params-file FILE

"loger parameters markdown" lists the parameters, "loger parameters yaml" prints a file to start from, and
"ros2 launch loger_ros loger.launch.py --show-args" lists the launch file's arguments.
"""


def main(args: list[str] | None = None) -> int:
    if {"-h", "--help"} & set(sys.argv[1:] if args is None else args):
        print(ABOUT)
        return 0
    with ending_quietly():
        from loger_ros.ros.loger_node import run

        return run(args)


if __name__ == "__main__":
    sys.exit(main())
