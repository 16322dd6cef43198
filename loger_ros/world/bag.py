"""Sequences as rosbag2, without ROS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loger_ros.bags import writing_bag
from loger_ros.types import CAMERA_FRAME
from loger_ros.world.sequences import BASE_FRAME, TRUTH_FRAME, WORLD_FRAME, Sequence


def write_bag(
    sequence: Sequence,
    folder: Path,
    storage: str = "mcap",
    compressed: bool = False,
    depth: bool = False,
    progress: Callable[[int], object] = lambda frames: None,
) -> None:
    """image, camera_info, ground_truth/odometry, /tf (world → base_link_truth), the mount on /tf_static."""
    camera = sequence.camera.described()
    base, twist = sequence.T_world_base, sequence.base_twist
    with writing_bag(folder, storage) as bag:
        messages, write = bag.messages, bag.write
        mount = messages.tf(0, BASE_FRAME, CAMERA_FRAME, sequence.mount_transform)
        write("/tf_static", int(sequence.stamps[0]), mount)
        number = 0
        for clip in sequence.clips():
            metres = clip.depth.cpu().numpy()
            for i, frame in enumerate(clip.frames()):
                stamp, pose = frame.stamp, base[number]
                if compressed:
                    write("/image/compressed", stamp, messages.jpeg(stamp, frame.image))
                else:
                    write("/image", stamp, messages.rgb(stamp, frame.image))
                write("/camera_info", stamp, messages.camera_info(stamp, camera))
                truth = messages.odometry(stamp, WORLD_FRAME, TRUTH_FRAME, pose, twist[number])
                write("/ground_truth/odometry", stamp, truth)
                write("/tf", stamp, messages.tf(stamp, WORLD_FRAME, TRUTH_FRAME, pose))
                if depth:
                    write("/depth/image", stamp, messages.depth(stamp, metres[i]))
                number += 1
            progress(number)
