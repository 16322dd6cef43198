"""A thread whose end can be awaited even by a thread that a signal interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """A daemon thread. ``Thread.join`` is not enough: before Python 3.13, a join that SIGINT interrupts
    treats the thread as ended, and what must wait for its end then runs beside it.
    """

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def goes_on(self, timeout: float = 0.0) -> bool:
        """Whether it still runs after at most ``timeout`` seconds. False also before the start."""
        return self._thread.ident is not None and not self._ended.wait(timeout)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()
