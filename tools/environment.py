#!/usr/bin/env python3
"""Make the environment of loger_ros, then run a command in it:  tools/environment.py [COMMAND ...]

Needs only Python. Safe to repeat: finished steps are stamped and skipped, an interrupted set-up continues.
With a sourced ROS 2 the environment uses that one; otherwise it brings real ROS 2 from PyPI.

    LOGER_ROS=jazzy             the ROS 2 distribution to take from PyPI (kilted or jazzy; default kilted)
    LOGER_TORCH="torch==..."    what pip installs as torch (a requirement, a wheel, index options)
    LOGER_VENV=/some/folder     where the environment goes (default .venv in the checkout)
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, NamedTuple  # noqa: UP035 (an old Python must get as far as our message)

from machine import (
    SetupError,
    check_folders,
    check_python,
    check_wheels,
    choose_interpreter,
    has_nvidia_driver,
    runs,
    sourced_ros,
    writable,
)

ROOT = Path(__file__).resolve().parent.parent
TORCH = "2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# What pip says, and what that means for the user.
FAILURES = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk is full. Make room and run this again: it continues from here.",
    ),
    (
        rf"No matching distribution found for torch=={re.escape(TORCH)}\+cpu",
        f"torch for the CPU was not found: {TORCH_CPU_INDEX} has none for this Python,\n"
        f"or could not be reached. Run this again when the network is back. Or choose another torch,\n"
        f"such as PyPI's, which brings gigabytes of CUDA: LOGER_TORCH=torch=={TORCH} make test",
    ),
    (
        r"NewConnectionError|NameResolutionError|Connection refused|Network is unreachable|ConnectTimeout|"
        r"Read timed out|ProxyError|SSLError|Connection reset|Connection broken|IncompleteRead",
        "The package index could not be reached, or the connection was lost. Check the connection and the\n"
        "proxy, then run this again: it continues from here and keeps what was downloaded.",
    ),
)


class Step(NamedTuple):
    title: str
    action: Callable[[], None]
    inputs: list  # the step is done again when one of them changes


class Environment:
    """The folder, the steps that fill it, and the stamps of those that are done."""

    def __init__(self) -> None:
        self.ros = sourced_ros()
        self.wheels = os.environ.get("LOGER_ROS") or "kilted"
        if self.wheels not in ("kilted", "jazzy"):
            raise SetupError(
                f"LOGER_ROS={self.wheels}: PyPI has ROS 2 kilted and jazzy. Choose one of the two."
            )
        name = f".venv-{self.ros}" if self.ros else ".venv"
        self.folder = Path(os.environ.get("LOGER_VENV") or ROOT / name).absolute()
        self.python = self.folder / "bin" / "python"
        self.stamps_file = self.folder / "loger_setup.json"
        self.log_file = self.folder / "loger_setup.log"

    def make(self) -> None:
        steps = self.steps()
        if not self.undone(steps):
            return
        check_folders(ROOT, self.folder)
        check_python()
        if not self.ros:
            check_wheels()
        start = time.monotonic()
        with lock(ROOT):  # if two run at once, the second waits here and finds the work done
            for index, stamp in self.undone(steps):
                self.run_step(steps[index], f"[{index + 1}/{len(steps)}]")
                self.stamps_file.write_text(json.dumps([*self.read_stamps()[:index], stamp]))
        print(f"==> {self.folder} is ready after {time.monotonic() - start:.0f} s", flush=True)

    def steps(self) -> list[Step]:
        ros = f"the sourced ROS 2 {self.ros}" if self.ros else f"ROS 2 {self.wheels} from PyPI"
        extras = "test,lint" if self.ros else f"{self.wheels},test,lint"
        torch, torch_title = self.torch()
        package = [digest(name) for name in ("setup.py", "setup.cfg", "constraints.txt")]
        steps = [
            Step(
                f"an environment of Python {sys.version.split()[0]} in {self.folder}",
                self.make_venv,
                [sys.executable, ROOT, ros],
            ),
            Step(torch_title, lambda: self.pip(*torch), torch),
            Step(
                f"the package, its tools and {ros}",
                lambda: self.pip("--no-build-isolation", "-e", f"{ROOT}[{extras}]", *self.constraints()),
                [extras, *package],
            ),
        ]
        if not self.ros:
            generator = "tools/make_tf2_msgs.py"
            make = Step(
                "tf2_msgs, made here since PyPI has none",
                lambda: self.call(self.python, ROOT / generator),
                [digest(generator)],
            )
            steps.append(make)
        return steps

    def undone(self, steps: list[Step]) -> list[tuple[int, str]]:
        """Return index and stamp of each step to do: the first that is not done, and all after it."""
        stamps = self.read_stamps() if self.python.exists() else []
        pending, chain = [], ""
        for index, step in enumerate(steps):
            chain = hashlib.sha256(
                "\n".join([chain, step.title, *map(str, step.inputs)]).encode()
            ).hexdigest()
            if pending or stamps[index : index + 1] != [chain]:
                pending.append((index, chain))
        return pending

    def read_stamps(self) -> list:
        try:
            return list(json.loads(self.stamps_file.read_text()))
        except (OSError, ValueError):
            return []

    def run_step(self, step: Step, number: str) -> None:
        print(f"==> {number} {step.title}", flush=True)
        start = time.monotonic()
        step.action()
        print(f"    {time.monotonic() - start:.0f} s", flush=True)

    def make_venv(self) -> None:
        if self.stamps_file.exists():  # made here, but for another Python, place or ROS
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        system = ["--system-site-packages"] if self.ros else []
        self.call(sys.executable, "-m", "venv", *system, self.folder)
        self.pip("setuptools", *self.constraints())

    def torch(self) -> tuple[list[str], str]:
        """Return the arguments for pip and the title of the step."""
        wanted = os.environ.get("LOGER_TORCH")
        if wanted:
            return shlex.split(wanted), f"torch as asked for: {wanted}"
        if self.ros and runs(
            sys.executable, "from importlib.util import find_spec; assert find_spec('torch')"
        ):
            return ["torch>=2.4"], "the torch of this machine"
        if has_nvidia_driver():
            return [
                f"torch=={TORCH}",
                *self.constraints(),
            ], f"torch {TORCH} with CUDA, as there is an NVIDIA driver"
        # PyPI has no "+cpu", so this cannot fetch its gigabytes of CUDA. Dependencies come with our own.
        arguments = [
            "--no-deps",
            f"torch=={TORCH}+cpu",
            "--extra-index-url",
            TORCH_CPU_INDEX,
            "--retries",
            "2",
        ]
        return arguments, f"torch {TORCH} for the CPU, as there is no NVIDIA driver"

    def constraints(self) -> list[str]:
        """Versions known to work together; with a sourced ROS 2, those that its compiled modules allow."""
        if not self.ros:
            return ["-c", str(ROOT / "constraints.txt")]
        old_numpy = runs(sys.executable, "import numpy; assert numpy.__version__ < '2'")
        return ["-c", str(ROOT / "tools" / ("ros_numpy1.txt" if old_numpy else "ros.txt"))]

    def variables(self) -> dict:
        """Return the environment variables for commands that run in the environment."""
        env = dict(os.environ)
        if env.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):  # of another environment with ROS wheels
            env.pop("LD_LIBRARY_PATH", None)
        if not self.ros:
            env.pop("PYTHONPATH", None)  # an installed copy of our package would win over the checkout
        env["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["VIRTUAL_ENV"] = str(self.folder)
        return env

    def pip_variables(self) -> dict:
        """Give pip a cache here if it cannot write its own, as in a read-only home, since it would stop."""
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip"
        if writable(usual) or os.environ.get("PIP_CACHE_DIR"):
            return {}
        return {"PIP_CACHE_DIR": str(self.folder / "pip_cache")}

    def pip(self, *arguments: str) -> None:
        self.call(
            self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments
        )

    def call(self, *command: object) -> None:
        """Run quietly, with a line of progress on a terminal; everything is kept in the log."""
        words = [str(word) for word in command]
        said = []
        with open(self.log_file, "a", buffering=1, encoding="utf-8") as log:
            log.write(f"\n$ {shlex.join(words)}\n")
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**self.variables(), **self.pip_variables()},
                cwd=ROOT,
            )
            for line in process.stdout:
                said.append(line.rstrip())
                log.write(line)
                show_progress(line)
            show_progress("")
        code = process.wait()
        if code < 0:
            said.append(f"ended by {signal.Signals(-code).name}, from outside or for lack of memory")
        if code != 0:
            raise SetupError(f"{explain(said)}\nThe full output is in {self.log_file}")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("==> waiting for another set-up of this checkout to finish", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def explain(said: list[str]) -> str:
    text = "\n".join(said)
    for pattern, meaning in FAILURES:
        if re.search(pattern, text):
            return meaning
    last = [f"    {line[:160]}" for line in said[-8:]]
    return "\n".join(["This step failed. Running this again continues from here. Its last lines:", *last])


def show_progress(line: str) -> None:
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 5
        sys.stdout.write(f"\r\033[K    {line.strip()[:width]}" if line else "\r\033[K")
        sys.stdout.flush()


def digest(name: str) -> str:
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def run(command: list[str], env: dict) -> int:
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        raise SetupError(
            f"{command[0]} is neither in the environment nor on the PATH.\n"
            f"If it should be there, the environment was changed by hand: make clean, then run this again."
        )
    sys.stdout.flush()
    os.execve(program, command, env)


def main(command: list[str]) -> int:
    try:
        interpreter = choose_interpreter()
        if interpreter != sys.executable:
            os.execv(interpreter, [interpreter, *sys.argv])
        environment = Environment()
        environment.make()
        return run(command, environment.variables()) if command else 0
    except (SetupError, OSError) as error:
        print(f"\nSTOP: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Running this again continues from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
