"""Finds the files that ship beside the code: launch, config, rviz."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "loger_ros"


def share_directory() -> Path:
    """Return our share folder, for installations by colcon and pip and for the source tree.

    The search goes upwards from this file, so neither the ament index nor a sourced workspace is needed:
    ``<prefix>/lib/python3.x/site-packages/loger_ros`` has it at ``<prefix>/share/loger_ros``, and the
    checkout (``colcon build --symlink-install`` leads there too) is its own share folder.
    """
    here = Path(__file__).resolve().parent
    if (here.parent / "package.xml").is_file():
        return here.parent
    for prefix in here.parents:
        if (prefix / "share" / PACKAGE / "package.xml").is_file():
            return prefix / "share" / PACKAGE
    raise FileNotFoundError(
        f"The share folder of {PACKAGE} was not found above {here}: the installation is incomplete. "
        f"Install the package with colcon build or pip install; the Python files alone are not enough."
    )


def share_file(relative: str) -> Path:
    """Return the path of one of our share files, such as ``config/fastdds_large_messages.xml``."""
    path = share_directory() / relative
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the installation is incomplete; reinstall {PACKAGE}.")
    return path
