"""Fixtures for tests that meet ROS or other processes."""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path

import pytest

from loger_ros.ros.installation import this_machine_only

# Small models are fastest on one thread where the cores are busy; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# rosdep may not bring it: without it these are left out.
ASK_FOR_IT = [
    path.name for path in Path(__file__).parent.glob("test_*.py") if "from hypothesis" in path.read_text()
]
collect_ignore = [] if importlib.util.find_spec("hypothesis") else ASK_FOR_IT

ROOT = Path(__file__).resolve().parents[1]
_domains = itertools.count(os.getpid())


def pytest_report_header() -> str:
    return f"hypothesis is not installed: {', '.join(collect_ignore)} are left out" if collect_ignore else ""


@pytest.hookimpl(tryfirst=True)  # before xdist asks for the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In two processes (-n 2 --dist loadgroup) all that meets ROS goes one after another in one of them.

    The other tests stay together with those of their file, which share what is dear to make.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        meets_ros = {"ros_environment", "own_domain"} & {*vars(item.module), *item.fixturenames}
        item.add_marker(pytest.mark.xdist_group("ros" if meets_ros else item.path.stem))


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
        "ROS_DOMAIN_ID": str(1 + next(_domains) % 101),  # above 101 its ports collide with ephemeral ones
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
