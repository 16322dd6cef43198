"""What all our processes with a node share: what is set up before, and how they end cleanly."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.exceptions import NotInitializedException
from rclpy.executors import ExternalShutdownException
from rclpy.utilities import remove_ros_args

from loger_ros.ros.dds_profile import apply_large_message_profile
from loger_ros.ros.log_folder import use_writable_log_folder
from loger_ros.ros.signals import end_with_parent, ros_hears

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h calls them
KEPT, LARGE = 64 << 20, 32 << 20  # bytes: free memory that the process keeps; blocks that it never keeps


@contextmanager
def running_ros(args: list[str] | None = None) -> Iterator[None]:
    """Run ROS while the block runs. SIGINT and SIGTERM end the block without an error."""
    apply_large_message_profile()
    keep_freed_memory()
    use_writable_log_folder()
    end_with_parent()
    try:
        rclpy.init(args=args)
    except RuntimeError as error:
        raise SystemExit(f"ROS does not start: {error}{_cure(str(error))}") from error
    ros_hears()
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # how the two signals usually arrive
    except (RuntimeError, NotInitializedException):
        if rclpy.ok():
            raise
        # A signal came just before a node was to be made, or between two steps of Jazzy's executor.
    finally:
        rclpy.try_shutdown()


def refuse_arguments(name: str, args: list[str] | None) -> None:
    """Exit if there are arguments that are not for ROS: they would silently have no effect."""
    others = remove_ros_args(sys.argv[1:] if args is None else args)
    if others:
        print(
            f"{name}: {others[0]} has no effect: give topics and parameters after --ros-args, for example "
            "--ros-args -r image:=/camera/image_raw",
            file=sys.stderr,
        )
        raise SystemExit(2)


def _cure(reason: str) -> str:
    """What ROS does not say about a file of parameters."""
    return "; numbers in a list must have one type: 0.0 beside 0.1, not 0" if "same type" in reason else ""


def keep_freed_memory() -> None:
    """Let the next image reuse the memory of the last one instead of fresh pages from the system."""
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return  # the operator knows better
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "mallopt"):  # glibc
        c_library.mallopt(TRIM_THRESHOLD, KEPT)
        c_library.mallopt(MMAP_THRESHOLD, LARGE)
