"""The package installed by pip and by colcon: its programs are there and find their share files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loger_ros.share import share_directory

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"loger", "loger_node", "synthetic_camera"}
COLCON = shutil.which("colcon") or shutil.which("colcon", path=str(Path(sys.executable).parent))
BUILT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "out", "test")
WHERE = "import loger_ros.share as s, os; print(os.path.realpath(s.__file__)); print(s.share_directory())"

needs_colcon = pytest.mark.skipif(COLCON is None, reason="colcon is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in a path with a space, with one quick test file of ours."""
    copy = tmp_path_factory.mktemp("work space") / "src" / "loger_ros"
    shutil.copytree(ROOT, copy, ignore=BUILT)
    (copy / "test").mkdir()
    shutil.copy(ROOT / "test" / "test_rviz.py", copy / "test")
    return copy


def run(command: list, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    ran = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def files_in(folder: Path) -> set[str]:
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(file) for file in files if "__pycache__" not in file.parts}


def check_share(folder: Path) -> None:
    for kind in ("launch", "config", "rviz"):
        assert files_in(folder / kind) == files_in(ROOT / kind)
    assert (folder / "package.xml").is_file()


def test_the_checkout_is_its_own_share_folder() -> None:
    assert (share_directory() / "package.xml").is_file()
    check_share(ROOT)


def test_after_pip(source: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    # Without --ignore-installed pip takes the installation that these tests run from away.
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--prefix", prefix]
    run([*pip, *options, source], tmp_path)
    (site_packages,) = {path.parent for path in prefix.rglob("loger_ros/__init__.py")}
    site_packages = site_packages.parent
    module, share = run([sys.executable, "-c", WHERE], tmp_path, PYTHONPATH=str(site_packages)).splitlines()
    assert Path(module).is_relative_to(prefix)
    assert Path(share) in {prefix / "share" / "loger_ros", prefix / "local" / "share" / "loger_ros"}
    check_share(Path(share))
    programs = {path.name: path for path in prefix.rglob("bin/*")}
    assert programs.keys() >= PROGRAMS
    assert "COMMAND" in run([programs["loger"], "--help"], tmp_path, PYTHONPATH=str(site_packages))
    index = Path(share).parents[1] / "share" / "ament_index" / "resource_index" / "packages" / "loger_ros"
    assert index.is_file()


@needs_colcon
def test_colcon_takes_it_for_a_ros_package(source: Path) -> None:
    """A package.xml that does not validate is taken for plain Python, without a word."""
    listed = run([COLCON, "list"], source.parents[1])
    assert listed.split() == ["loger_ros", "src/loger_ros", "(ros.ament_python)"]


class Workspace:
    """A colcon workspace: build, install and log folders of its own around the same source."""

    def __init__(self, source: Path, folder: Path, *options: str) -> None:
        self.source = source
        self.base = folder / "install"
        self.installed = self.base / "loger_ros"
        self.results = folder / "build" / "loger_ros" / "pytest.xml"
        self._log = folder / "log"
        self._places = ["--build-base", folder / "build", "--install-base", self.base]
        self.colcon("build", *options)

    def colcon(self, verb: str, *options: str) -> None:
        run([COLCON, "--log-base", self._log, verb, *self._places, *options], self.source.parents[1])

    def sourced(self, command: str) -> str:
        command = f'. "{self.base}/setup.sh" && {command}'
        return run(["sh", "-c", command], Path("/"), COLCON_CURRENT_PREFIX=str(self.base))


@pytest.fixture(scope="module")
def workspace(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(source, tmp_path_factory.mktemp("built"))


def check_installed(workspace: Workspace, code: Path, share: Path) -> None:
    assert files_in(workspace.installed / "lib" / "loger_ros") >= PROGRAMS
    check_share(workspace.installed / "share" / "loger_ros")
    module, found = workspace.sourced(f"'{sys.executable}' -c '{WHERE}'").splitlines()
    assert Path(module).is_relative_to(code)
    assert Path(found) == share
    assert "COMMAND" in workspace.sourced(f"'{workspace.installed}/lib/loger_ros/loger' --help")


@needs_colcon
def test_after_colcon_build(workspace: Workspace) -> None:
    check_installed(workspace, workspace.installed, workspace.installed / "share" / "loger_ros")


@needs_colcon
def test_after_colcon_build_with_links(source: Path, tmp_path: Path) -> None:
    check_installed(Workspace(source, tmp_path, "--symlink-install"), source, source)


@needs_colcon
def test_colcon_test_runs_our_tests(workspace: Workspace) -> None:
    workspace.colcon("test", "--return-code-on-test-failure")
    results = workspace.results.read_text()
    assert 'failures="0"' in results
    assert "test_rviz" in results
