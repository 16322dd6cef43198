"""A thread whose end can be waited for, also by whoever a signal interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """A daemon. ``Thread.join`` will not do: interrupted by SIGINT, as before Python 3.13, it takes the
    thread for ended, which then goes on beside what must wait for its end.
    """

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def goes_on(self, timeout: float = 0.0) -> bool:
        """After at most ``timeout`` seconds. False also before the start."""
        return self._thread.ident is not None and not self._ended.wait(timeout)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()
