"""How our processes end before ROS handles signals, and how a child ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

PARENT = "LOGER_ROS_PARENT"  # environment variable: the process without which this one has no purpose
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ONE_WISH = 1.0  # s after the first signal: launch repeats what the terminal or systemd has already sent

_ros_hears = False
_first_heard: float | None = None


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Until ``ros_hears``, signals end the process as they end the running node: with code 0.

    SIGHUP is one of them: it comes when the terminal is closed or its connection breaks.
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
            if _first_heard is not None:  # the process is ending: nothing is left to interrupt
                signal.signal(number, signal.SIG_IGN)
            elif handler is not None:  # else it was not set by Python
                signal.signal(number, handler)


def ros_hears() -> None:
    """Note that ROS has set its own handlers, which call ours."""
    global _ros_hears
    _ros_hears = True


def _heard(number: int, frame: FrameType | None) -> None:
    global _first_heard
    if not _ros_hears:
        os._exit(0)  # Python cannot exit cleanly beside the threads of half-imported libraries
    now = time.monotonic()
    if _first_heard is not None and now - _first_heard < ONE_WISH:
        return
    _first_heard = _first_heard or now
    if number != signal.SIGTERM:  # on SIGTERM, ROS ends its executors
        raise KeyboardInterrupt


def with_parent(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that ends with the thread that starts it, which has to be the main one."""
    return {**environment, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """If ``with_parent`` asked for it, get SIGTERM when that process dies, however it dies. Linux only."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:
        print(f"the process {parent} that started this one has already ended", file=sys.stderr, flush=True)
        os._exit(0)
