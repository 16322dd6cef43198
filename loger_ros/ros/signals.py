"""How a process of ours ends before ROS is there to hear signals, and how a child ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

PARENT = "LOGER_ROS_PARENT"  # environment: the process without which this one has no purpose
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ONE_WISH = 1.0  # s from the first signal: launch passes on what the terminal, or systemd, has told us already

_ros_hears = False
_first_heard: float | None = None


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Until ``ros_hears`` signals end the process as they end the running node: with code 0.

    SIGHUP is one of them: the terminal is closed, or its connection broke.
    """
    global _ros_hears, _first_heard
    _ros_hears, _first_heard = False, None
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _heard)
    end_with_parent()
    try:
        yield
    finally:
        for number, handler in before.items():
            if _first_heard is not None:  # the process is at its end: nothing is left to be cut short
                signal.signal(number, signal.SIG_IGN)
            elif handler is not None:  # else it was not set by Python
                signal.signal(number, handler)


def ros_hears() -> None:
    """ROS has set its own handlers, which pass on to ours."""
    global _ros_hears
    _ros_hears = True


def _heard(number: int, frame: FrameType | None) -> None:
    global _first_heard
    if not _ros_hears:
        os._exit(0)  # Python cannot end in peace beside the threads of half a library
    now = time.monotonic()
    if _first_heard is not None and now - _first_heard < ONE_WISH:
        return
    _first_heard = _first_heard or now
    if number != signal.SIGTERM:  # by which ROS ends its executors
        raise KeyboardInterrupt


def with_parent(environment: Mapping[str, str]) -> dict[str, str]:
    """For a child that ends when this process, or rather the thread that starts it, does: the main one."""
    return {**environment, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Where ``with_parent`` asked for it: SIGTERM when that process dies, however it dies. Linux only."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:
        print(f"the process {parent} that started this one has ended already", file=sys.stderr, flush=True)
        os._exit(0)
