"""What the set-up checks on this machine before the first download: one message for each problem."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
DISK_NEEDED = 3 * 10**9  # bytes: the CPU environment (1.8 GB) and what pip unpacks on the way


class SetupError(Exception):
    """One message for the user: what is wrong and what to do."""


def sourced_ros() -> str | None:
    """The distribution of the ROS 2 that is sourced in this shell."""
    return os.environ.get("ROS_DISTRO")


def runs(interpreter: str, code: str) -> bool:
    return subprocess.run([interpreter, "-c", code], capture_output=True, check=False).returncode == 0


def choose_interpreter() -> str:
    """Return the Python to build on: not a venv's, supported, and able to use a sourced ROS 2."""
    here = getattr(sys, "_base_executable", None) or sys.executable
    if sourced_ros():
        for candidate in (here, "/usr/bin/python3"):
            if runs(candidate, "import rclpy"):
                return candidate
        raise SetupError(
            f"ROS 2 {sourced_ros()} is sourced, but neither {here} nor /usr/bin/python3 can import rclpy.\n"
            f"Deactivate conda or pyenv, or use a shell without a sourced ROS 2: it then comes from PyPI."
        )
    if sys.version_info[:2] in PYTHONS:
        return here
    for major, minor in reversed(PYTHONS):
        other = shutil.which(f"python{major}.{minor}")
        if other and runs(other, "import venv"):
            return other
    raise SetupError(
        f"Python {platform.python_version()} ({here}) is not supported, and none of 3.10 to 3.13 was found.\n"
        f"Install one and name it: make PYTHON=python3.12 test"
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def writable(folder: Path) -> bool:
    place = existing(folder)
    read_only = os.statvfs(place).f_flag & os.ST_RDONLY
    return not read_only and os.access(place, os.W_OK)


def check_folders(checkout: Path, venv: Path) -> None:
    folder = existing(venv)
    if not writable(checkout):
        raise SetupError(
            f"{checkout} is not writable.\nCopy the checkout to a folder of your own and run this there."
        )
    if not writable(folder):
        raise SetupError(
            f"{folder} is not writable, so the environment cannot be made there.\n"
            f"Name another place: LOGER_VENV=/some/folder make test"
        )
    free = shutil.disk_usage(folder).free
    if not venv.exists() and free < DISK_NEEDED:
        raise SetupError(
            f"{folder} has {free / 1e9:.1f} GB free and {DISK_NEEDED / 1e9:.0f} GB are needed.\n"
            f"Make room, or name another place: LOGER_VENV=/some/folder make test"
        )


def check_python() -> None:
    if not runs(sys.executable, "import venv, ensurepip"):
        raise SetupError(
            f"{sys.executable} cannot make environments: its modules venv and ensurepip are not installed.\n"
            f"On Debian and Ubuntu: sudo apt install python3-venv"
        )


def check_wheels() -> None:
    """Check that this machine can use the ROS 2 wheels from PyPI."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        raise SetupError(
            f"PyPI has ROS 2 for Linux with glibc on x86_64 only; this is {platform.platform()}.\n"
            f"Install ROS 2 and source its setup.bash, then run this again: it will be used."
        )
    for tool in (os.environ.get("CC", "gcc"), os.environ.get("CXX", "g++")):
        if not shutil.which(shlex.split(tool)[0]):
            raise SetupError(
                f"{tool} was not found. A compiler is needed once, to build tf2_msgs for ROS 2 from PyPI.\n"
                f"On Debian and Ubuntu: sudo apt install g++"
            )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise SetupError(
            f"Python's headers are not installed: no {headers}/Python.h. They are needed to build tf2_msgs.\n"
            f"On Debian and Ubuntu: sudo apt install python3-dev"
        )


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
