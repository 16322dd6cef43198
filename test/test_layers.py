"""The layers of the package (rooms): imports run downward only, and only the room ros imports ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "loger_ros"

# From the bottom up. What is directly in the package and is not named here is at the bottom.
HEIGHT = {
    "model": 1,
    **dict.fromkeys(("stream", "mapping", "world", "inventory"), 2),
    **dict.fromkeys(("ros", "evaluation", "training", "cli", "__main__"), 3),
}
ROS = {
    *(
        "rclpy",
        "launch",
        "launch_ros",
        "ament_index_python",
        "cv_bridge",
        "message_filters",
        "rosidl_runtime_py",
    ),
    *("sensor_msgs_py", "std_srvs", "tf2_ros", "tf2_py", "tf_transformations", "rosbag2_py", "ros2cli"),
}


def is_ros(module: str) -> bool:
    top = module.split(".")[0]
    return top in ROS or top.endswith(("_msgs", "_interfaces"))


def imports(source: str, package: str) -> set[str]:
    """Every module that the source imports, anywhere in it; relative names are made absolute."""
    found = set()
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            base = (
                package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
            )
            module = ".".join([*base, *filter(None, [statement.module])])
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in statement.names}
    return found


def room(module: str) -> str:
    """``loger_ros.stream.align`` is in the room ``stream``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def package_imports() -> dict[Path, set[str]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        file.relative_to(ROOT): imports(file.read_text(), ".".join(file.relative_to(ROOT).parent.parts))
        for file in files
    }


def own_edges() -> set[tuple[str, str, Path]]:
    """(room, room it imports from, file)"""
    edges = set()
    for file, modules in package_imports().items():
        here = room(".".join(file.with_suffix("").parts))
        there = {room(module) for module in modules if module.split(".")[0] == "loger_ros"}
        edges |= {(here, other, file) for other in there if other and other != here}
    return edges


def test_the_walk_sees_imports_wherever_they_stand() -> None:
    source = "def f():\n    import rclpy.node\n    from . import b\n    from ..model.x import y\n"
    assert imports(source, "loger_ros.stream") == {
        *("rclpy.node", "loger_ros.stream", "loger_ros.stream.b"),
        *("loger_ros.model.x", "loger_ros.model.x.y"),
    }
    assert is_ros("sensor_msgs.msg")
    assert not is_ros("rosbags.highlevel")


def test_imports_run_downward() -> None:
    edges = own_edges()
    assert len(edges) > 10
    upward = [
        f"{file} imports {there}" for here, there, file in edges if HEIGHT.get(there, 0) > HEIGHT.get(here, 0)
    ]
    assert not upward, "\n".join(sorted(upward))


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for here, there, _ in own_edges():
        below.setdefault(here, set()).add(there)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(below.get(start, ()))
        while todo:
            next_room = todo.pop()
            if next_room not in seen:
                seen.add(next_room)
                todo += below.get(next_room, ())
        return seen

    circles = sorted(name for name in below if name in reachable(name))
    assert not circles, f"these rooms import each other: {circles}"


def test_only_the_ros_room_imports_ros() -> None:
    breaches = [
        f"{file} imports {module}"
        for file, modules in package_imports().items()
        for module in modules
        if is_ros(module) and file.parts[:2] != ("loger_ros", "ros")
    ]
    assert not breaches, "\n".join(sorted(breaches))


@pytest.mark.parametrize("ros_is_installed", [True, False])
def test_importing_everything_else_takes_neither_ros_nor_the_gpu(ros_is_installed: bool) -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.relative_to(PACKAGE).parts[0] != "ros" and file.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
if not {ros_is_installed}:
    sys.modules["rclpy"] = None  # makes any import of it fail
for name in {modules!r}:
    importlib.import_module(name)
assert sys.modules.get("rclpy") is None, "rclpy was imported"
torch = sys.modules.get("torch")
assert torch is None or not torch.cuda.is_initialized(), "CUDA was initialised"
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert ran.returncode == 0, ran.stderr
