"""Fixtures for tests that meet ROS or other processes."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from loger_ros.ros.installation import this_machine_only

# Small models are fastest on one thread where the cores are busy; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Humble's messages always check the types of what they are given, newer ones only where this is set.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")


def files_with(pattern: str) -> list[str]:
    tests = sorted(Path(__file__).parent.glob("test_*.py"))
    return [path.name for path in tests if re.search(pattern, path.read_text())]


# rosdep may not bring it: without it these are left out.
ASK_FOR_IT = files_with("from hypothesis")
collect_ignore = [] if importlib.util.find_spec("hypothesis") else ASK_FOR_IT

MEET_ROS = files_with(r"\b(ros_environment|ros_domain|own_domain)\b")

ROOT = Path(__file__).resolve().parents[1]
# Each process of pytest has domains that no other one has; above 101 their ports collide with ephemeral ones.
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
DOMAINS = range(1 + PROCESS, 102, PROCESSES)
_domains = itertools.count(os.getpid())


def pytest_report_header() -> str:
    return f"hypothesis is not installed: {', '.join(collect_ignore)} are left out" if collect_ignore else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In several processes (-n 2) all that meets ROS goes one after another in one of them.

    The other tests stay together with those of their file, which share what is dear to make.
    """
    from xdist.scheduler import LoadFileScheduling

    class RosInOneProcess(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ros" if Path(file).name in MEET_ROS else file

    return RosInOneProcess(config, log)


@pytest.fixture
def ros_environment(tmp_path: Path) -> dict[str, str]:
    """Variables for a process in a ROS domain of its own, unheard outside this machine."""
    return own_domain(tmp_path)


def own_domain(tmp_path: Path) -> dict[str, str]:
    environment = dict(os.environ)
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_NAMESPACE"):
        environment.pop(name, None)
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        **this_machine_only(),
        "ROS_DOMAIN_ID": str(DOMAINS[next(_domains) % len(DOMAINS)]),
        "ROS_LOG_DIR": str(tmp_path / "ros_log"),
    }
    return environment


@pytest.fixture
def ros_domain(ros_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The domain of ``ros_environment``, of which this process is then a part too."""
    for name, value in ros_environment.items():
        if name.startswith("ROS_"):
            monkeypatch.setenv(name, value)
    return int(ros_environment["ROS_DOMAIN_ID"])
