"""One of our nodes as a process of its own, which ends with this one and whose output goes to a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from loger_ros.ros.interface import PATIENCE
from loger_ros.ros.signals import with_parent

STOP_TIME = PATIENCE + 10.0  # s that it may take to end
LAST_LINES = 12


class Child:
    def __init__(self, module: str, parameters: dict[str, object], log: Path) -> None:
        self.log = log
        options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_text(value)}")]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--ros-args", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=with_parent(os.environ),
                start_new_session=True,  # Ctrl+C reaches only this process, which then stops the child
            )

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> int:
        """Ask it to end, kill it if it does not, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
