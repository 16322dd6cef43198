"""Makes room for images in Fast DDS, whose defaults lose nearly all best-effort messages above 0.5 MB.

Call :func:`apply_large_message_profile` before ``rclpy.init``. This module imports no ROS.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loger_ros.ros.installation import find_ros
from loger_ros.share import share_file

PROFILE = "config/fastdds_large_messages.xml"
SHARED_MEMORY = Path("/dev/shm")
# Every process reserves a segment of 64 MB. If there is no room for it, Fast DDS prints errors and falls back
# to UDP, which is worse than its own default. Docker gives a container 64 MB in all. Two segments must fit.
ROOM = 160 * 2**20

# Fast DDS settings that users may have made. Each one that is read wins over our profile.
USER_VARIABLES = (
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)
# Fast DDS reads them from the working directory.
USER_FILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")
ON = "on: 64 MB of shared memory for each process"
NEW_NAMES = ("FASTDDS_DEFAULT_PROFILES_FILE", "DEFAULT_FASTDDS_PROFILES.xml")
NOT_READ = {  # of these, by the Fast DDS of each distribution: version 2, in Kilted version 3
    "humble": (*NEW_NAMES, "FASTDDS_BUILTIN_TRANSPORTS"),
    "iron": (*NEW_NAMES, "FASTDDS_BUILTIN_TRANSPORTS"),
    "jazzy": NEW_NAMES,
    "kilted": ("DEFAULT_FASTRTPS_PROFILES.xml",),
}
LOCALHOST_ONLY = "ROS_LOCALHOST_ONLY"
PROFILE_OVERRIDES = ("humble", "iron")  # here a profile makes ROS talk to other machines in spite of it


@dataclass(frozen=True)
class LargeMessages:
    """The decision: the variables to set (none if Fast DDS is left alone) and why."""

    reason: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cure: str = ""  # what the operator should do if large messages would be lost


def large_message_profile(environment: Mapping[str, str] = os.environ) -> LargeMessages:
    """What :func:`apply_large_message_profile` would do, without doing it."""
    rmw = environment.get("RMW_IMPLEMENTATION", "")
    if rmw and not rmw.startswith("rmw_fastrtps"):
        return LargeMessages(f"not needed: RMW_IMPLEMENTATION is {rmw}")
    profile = str(share_file(PROFILE))
    ros = find_ros()
    distribution = "unknown" if ros is None else ros.distribution
    unread = NOT_READ.get(distribution, ())
    for name in (name for name in USER_VARIABLES if name not in unread):
        value = environment.get(name)
        if value == profile:
            return LargeMessages(ON)
        if value:
            return LargeMessages(f"left to the user: {name}={value}")
    for file in (file for file in USER_FILES if file not in unread):
        if Path(file).is_file():
            return LargeMessages(f"left to the user: {file} in the working directory")
    if distribution in PROFILE_OVERRIDES and environment.get(LOCALHOST_ONLY) == "1":
        return LargeMessages(
            f"off: {LOCALHOST_ONLY} is set, which the profile's transports would not respect, so best-effort "
            "images above 0.5 MB will be lost",
            cure=f"if images are that large, unset {LOCALHOST_ONLY} and keep others out with ROS_DOMAIN_ID",
        )
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    if free < ROOM:
        return LargeMessages(
            f"off: {SHARED_MEMORY} has {free >> 20} MB free, but the profile needs {ROOM >> 20} MB, "
            f"so best-effort images above 0.5 MB will be lost",
            cure="give the container more shared memory (docker run --shm-size=1g, or --ipc=host)",
        )
    # Fast DDS 2 ignores the new name, and Fast DDS 3 complains about the old one, so exactly one is set.
    old = "FASTDDS_DEFAULT_PROFILES_FILE" in unread
    return LargeMessages(
        ON, {"FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE": profile}
    )


def apply_large_message_profile() -> LargeMessages:
    """Set the profile for this process and its children, unless users have settings of their own."""
    decision = large_message_profile()
    os.environ.update(decision.environment)
    return decision
