"""ROS does not start if it cannot write its log, as on a robot with a read-only home."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def use_writable_log_folder() -> None:
    """Call before ``rclpy.init``: if the usual folder cannot be written, logs go to the temporary one."""
    if os.environ.get("ROS_LOG_DIR") or os.environ.get("ROS_HOME"):
        return
    folder = Path.home() / ".ros" / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        instead = os.path.join(tempfile.gettempdir(), "ros_log")
        print(f"{folder} is not writable ({error.strerror}); ROS logs go to {instead}", file=sys.stderr)
        os.environ["ROS_LOG_DIR"] = instead
