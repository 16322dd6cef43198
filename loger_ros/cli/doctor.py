"""``loger doctor``: one line for each thing the node needs, and the fix if the node cannot run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from loger_ros import inventory
from loger_ros.inventory import Finding, Verdict
from loger_ros.ros.dds_profile import large_message_profile
from loger_ros.ros.installation import find_ros, import_failure
from loger_ros.ros.interface import message_packages
from loger_ros.share import share_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "The exit code is 1 if the node cannot run here, else 0."


def run(args: argparse.Namespace) -> int:
    findings = [
        inventory.python(),
        package(),
        *ros(),
        large_messages(),
        inventory.numpy(),
        inventory.opencv(),
        inventory.needed("Pillow", "PIL"),
        inventory.needed("PyYAML", "yaml"),
        inventory.needed("safetensors", "safetensors"),
        inventory.optional("rosbags", "loger eval, replay and export of bags"),
        inventory.optional("matplotlib", "the plots of loger eval and train"),
        inventory.torch(),
        inventory.device(),
        inventory.flash_attention(),
        inventory.checkpoint(),
    ]
    print(report(findings))
    return int(any(finding.verdict is Verdict.WRONG for finding in findings))


def report(findings: Iterable[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict.value}  {finding.name:<15} {finding.value}")
        if finding.cure:
            lines.append(f"{'':<20}→ {finding.cure}")
    return "\n".join(lines)


def package() -> Finding:
    try:
        return Finding("loger_ros", f"its files are in {share_directory()}")
    except FileNotFoundError as error:
        return Finding("loger_ros", str(error), Verdict.WRONG, "colcon build, or pip install .")


def ros() -> list[Finding]:
    """Return what was found of the distribution, its messages and the middleware."""
    found = find_ros()
    if found is None:
        cure = (
            "source /opt/ros/<distribution>/setup.bash, or take ROS 2 from PyPI: make demo puts it in .venv"
        )
        return [Finding("ROS 2", "no rclpy for this Python", Verdict.WRONG, cure)]
    origin = "from PyPI" if found.from_wheels else f"ROS_DISTRO={os.environ.get('ROS_DISTRO', '')}"
    value = f"{found.distribution}, rclpy {found.rclpy_version} {origin}, in {found.rclpy_folder}"
    failure = import_failure(["rclpy"])
    if failure:
        cure = "rclpy belongs to another Python or ROS: open a new shell and source only one ROS 2"
        return [Finding("ROS 2", f"{value}: {failure}", Verdict.WRONG, cure)]
    rmw = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp, the default"
    return [Finding("ROS 2", value), messages(found.from_wheels), Finding("RMW", rmw)]


def messages(from_wheels: bool) -> Finding:
    packages = message_packages()
    failure = import_failure([f"{name}.msg" for name in packages])
    if not failure:
        return Finding("messages", ", ".join(packages))
    cure = (
        "python tools/make_tf2_msgs.py"
        if from_wheels and "tf2_msgs" in failure
        else "rosdep install --from-paths ."
    )
    return Finding("messages", failure, Verdict.WRONG, cure)


def large_messages() -> Finding:
    try:
        decision = large_message_profile()
    except FileNotFoundError as error:
        return Finding("large messages", str(error), Verdict.NOTE)
    return Finding(
        "large messages", decision.reason, Verdict.NOTE if decision.cure else Verdict.FINE, decision.cure
    )
