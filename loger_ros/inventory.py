"""What this machine has for the network: one finding for each item, with a cure if one is needed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

OLDEST_TORCH = (2, 4)
OPENCV_CURE = "pip install opencv-python-headless, or apt install python3-opencv"
JETSONS = {53, 62, 72, 87, 101}  # compute capabilities: code for their neighbours does not run on them
THOR = (101, 110)  # had the first number once, now has the second
PYTHONS = ((3, 10), (3, 13))  # oldest and newest that are tested


class Verdict(Enum):
    FINE = "ok"
    NOTE = "--"  # works, but there is something to know
    WRONG = "!!"  # the node could not run


@dataclass(frozen=True)
class Finding:
    name: str
    value: str
    verdict: Verdict = Verdict.FINE
    cure: str = ""


def python() -> Finding:
    value = f"{platform.python_version()} ({sys.executable})"
    oldest, newest = PYTHONS
    if sys.version_info[:2] < oldest:
        return Finding("Python", value, Verdict.WRONG, "use Python 3.10 or newer")
    if sys.version_info[:2] > newest:
        return Finding("Python", value, Verdict.NOTE, "newer than the tested versions, 3.10 to 3.13")
    return Finding("Python", value)


def torch() -> Finding:
    try:
        import torch
    except Exception as error:  # a broken installation raises anything: ImportError, OSError, RuntimeError
        cure = "make demo installs it in .venv; on a robot, install torch 2.4 or newer for this Python"
        return Finding("torch", f"does not import: {error}", Verdict.WRONG, cure)
    version = torch.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        return Finding("torch", version, Verdict.WRONG, "install torch 2.4 or newer")
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return Finding("torch", f"{version} ({cuda})")


def device() -> Finding:
    """Check the device the network would run on. Asking for it initialises CUDA."""
    try:
        import torch
    except Exception:
        return Finding("device", "unknown without torch", Verdict.NOTE)
    if torch.cuda.is_available():
        name = "cuda"
        try:
            properties = torch.cuda.get_device_properties(0)
            name = f"cuda, {properties.name}"
            free, total = torch.cuda.mem_get_info(0)
        except Exception as error:  # includes torch's own types
            cure = "see nvidia-smi and dmesg: another process may hold all of the GPU's memory"
            reason = str(error).partition("\n")[0]
            return Finding("device", f"{name}: {reason}", Verdict.WRONG, cure)
        value = (
            f"{name}, compute capability {properties.major}.{properties.minor}, "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
        built = torch.cuda.get_arch_list()
        if not runs_on(built, properties.major, properties.minor):
            cure = (
                f"this torch has code for {', '.join(built)} only: install one that is built for this GPU "
                "(on a Jetson, NVIDIA's own)"
            )
            return Finding("device", value, Verdict.WRONG, cure)
        return Finding("device", value)
    value = f"cpu, {os.cpu_count()} cores"
    if not Path("/proc/driver/nvidia/version").exists():
        return Finding("device", f"{value} (no NVIDIA driver)")
    if torch.version.cuda is None:
        cure = "there is an NVIDIA driver, but this torch has no CUDA: install a CUDA build to use the GPU"
    else:
        cure = (
            f"there is an NVIDIA driver, but CUDA {torch.version.cuda} does not start with it: "
            f"update the driver, or install a torch built for an older CUDA"
        )
    return Finding("device", value, Verdict.NOTE, cure)


def runs_on(built: list[str], major: int, minor: int) -> bool:
    """Whether code was built for this GPU: sm_86 runs on 8.6 and 8.9, compute_90 on 9.0 and all later."""
    wanted, known = 10 * major + minor, False
    for entry in built:
        kind, _, version = entry.partition("_")
        found = re.fullmatch(r"(\d+)([a-z]?)", version)
        if found is None or kind not in ("sm", "compute"):  # of another manufacturer
            continue
        known, its, alone = True, int(found[1]), found[2] == "a" or {int(found[1]), wanted} & JETSONS
        if its == wanted or (its, wanted) == THOR:
            return True
        if kind == "compute" and not found[2] and its < wanted:
            return True
        if kind == "sm" and not alone and its // 10 == major and its < wanted:
            return True
    return not known


def numpy() -> Finding:
    """Check NumPy and whether an installed cv_bridge works with it: one built for NumPy 1 does not with 2."""
    try:
        import numpy
    except Exception as error:
        cure = "pip install numpy, or apt install python3-numpy"
        return Finding("NumPy", f"does not import: {error}", Verdict.WRONG, cure)
    version = numpy.__version__
    if importlib.util.find_spec("cv_bridge") is None:
        return Finding("NumPy", f"{version} (no cv_bridge: not needed for the usual image encodings)")
    # In a process of its own, since a module built for the other NumPy may end the process.
    code = "from cv_bridge.boost.cv_bridge_boost import cvtColorForDisplay"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return Finding("NumPy", f"{version}, and cv_bridge works with it")
    cure = "needed for unusual image encodings only; if it was built for NumPy 1: pip install 'numpy<2'"
    return Finding("NumPy", f"{version}, but cv_bridge does not work with it", Verdict.NOTE, cure)


def opencv() -> Finding:
    try:
        import cv2
    except Exception as error:  # also if built for another NumPy, or if a system library is missing
        return Finding("OpenCV", f"does not import: {error}", Verdict.WRONG, OPENCV_CURE)
    return Finding("OpenCV", cv2.__version__)


def needed(name: str, module: str) -> Finding:
    try:
        importlib.import_module(module)
        return Finding(name, importlib.metadata.version(name))
    except Exception as error:
        return Finding(name, f"does not import: {error}", Verdict.WRONG, f"pip install {name.lower()}")


def optional(name: str, purpose: str) -> Finding:
    """Check a package that only some commands need."""
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"not installed; {purpose} need it", Verdict.NOTE, f"pip install {name}")


def flash_attention() -> Finding:
    try:
        from loger_ros.model.flash import installed
    except Exception:  # from torch, which has a finding of its own
        return Finding("flash-attn", "unknown without torch", Verdict.NOTE)
    packages = installed()
    if not packages:
        return Finding("flash-attn", "not installed (torch's own attention is used)")
    value = "; ".join(package.problem or package.name for package in packages)
    if any(package.problem for package in packages):
        cure = (
            "install a flash-attn built for this torch, or remove it: torch's own attention is used instead"
        )
        return Finding("flash-attn", value, Verdict.NOTE, cure)
    return Finding("flash-attn", value)


def checkpoint() -> Finding:
    """Check the checkpoints that are found by name: their structure, not every number in them."""
    try:
        from loger_ros.model.catalog import NAMES, checkpoint_folders, find_checkpoint
        from loger_ros.model.verify import verify_checkpoint
    except ImportError as error:  # which has a finding of its own
        return Finding("checkpoint", f"not looked for ({error})", Verdict.NOTE)
    paths = [path for name in NAMES if (path := find_checkpoint(name))]
    if not paths:
        folders = ", ".join(map(str, checkpoint_folders()))
        cure = "the network has no weights to run with; `loger weights --help` says where to get them"
        return Finding("checkpoint", f"none found in {folders}", Verdict.NOTE, cure)
    reports = [verify_checkpoint(path, contents=False) for path in paths]
    value = "; ".join(
        f"{report.message} in {report.path}" if report.ok else report.message for report in reports
    )
    return Finding(
        "checkpoint", value, Verdict.FINE if all(report.ok for report in reports) else Verdict.WRONG
    )
