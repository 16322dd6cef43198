"""Which ROS 2 this interpreter sees. Imports no ROS, so that it also works where ROS is broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# By rclpy's first two version numbers: the wheels on PyPI do not set ROS_DISTRO.
DISTRIBUTION_OF_RCLPY = {"3.3": "humble", "7.1": "jazzy", "9.1": "kilted"}


@dataclass(frozen=True)
class RosInstallation:
    distribution: str  # "kilted"; "unknown" if neither ROS_DISTRO nor rclpy's version tells
    rclpy_version: str
    rclpy_folder: Path
    from_wheels: bool  # from PyPI by pip, not a sourced ROS 2


def find_ros() -> RosInstallation | None:
    """The ROS 2 that ``import rclpy`` would take, or None."""
    spec = importlib.util.find_spec("rclpy")
    if spec is None or spec.origin is None:
        return None
    wheels = _version("ros-rclpy")
    version = wheels or _version("rclpy") or "unknown"
    guess = DISTRIBUTION_OF_RCLPY.get(".".join(version.split(".")[:2]), "unknown")
    return RosInstallation(
        distribution=guess if wheels else os.environ.get("ROS_DISTRO", guess),
        rclpy_version=version,
        rclpy_folder=Path(spec.origin).parent,
        from_wheels=wheels is not None,
    )


def this_machine_only() -> dict[str, str]:
    """The variable that keeps ROS messages on this machine; Humble and Iron have an older one."""
    ros = find_ros()
    if ros is not None and ros.distribution in ("humble", "iron"):
        return {"ROS_LOCALHOST_ONLY": "1"}
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def keep_to_ourselves() -> None:
    """For our processes that talk to each other: send nothing to nearby robots, and use one thread each.

    Two threads on a busy core wait for each other. What the user has set stays.
    """
    for name, value in {**this_machine_only(), "OMP_NUM_THREADS": "1"}.items():
        os.environ.setdefault(name, value)


def import_failure(packages: Iterable[str]) -> str:
    """Why these packages cannot be imported, in one line; empty if they can. Tried in another process."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    tried = subprocess.run(
        [sys.executable, "-c", code, *packages], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else f"the import ended with code {tried.returncode}"


def _version(project: str) -> str | None:
    try:
        return importlib.metadata.version(project)
    except importlib.metadata.PackageNotFoundError:
        return None
