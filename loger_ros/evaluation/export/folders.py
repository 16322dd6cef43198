"""A recording as a folder in TUM's or KITTI's layout: images, and the truth if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from loger_ros.evaluation.association import associate
from loger_ros.evaluation.export.place import new_folder
from loger_ros.evaluation.sources import Source, SourceError
from loger_ros.geometry import inverse
from loger_ros.mapping.trajectory_files import stamp_text, write_kitti, write_tum
from loger_ros.stream.lens import bends
from loger_ros.types import Trajectory

DEPTH_SCALE, MOST_STEPS = 5000, 65535  # of TUM's depth images
Progress = Callable[[int], None]


def write_tum_source(source: Source, folder: Path, progress: Progress) -> None:
    """Write rgb/ with rgb.txt and, as far as known, depth/ with depth.txt, groundtruth.txt and camera.txt."""
    new_folder(folder)
    (folder / "rgb").mkdir()
    lists: dict[str, list[str]] = {"rgb": [], "depth": []}
    for frame in source.frames():
        name = f"{stamp_text(frame.stamp)}.png"
        Image.fromarray(frame.image).save(folder / "rgb" / name)
        lists["rgb"].append(f"{stamp_text(frame.stamp)} rgb/{name}\n")
        depth = source.depth(frame.stamp)
        if depth is not None:
            (folder / "depth").mkdir(exist_ok=True)
            steps = np.nan_to_num(np.round(depth * DEPTH_SCALE), nan=0, posinf=0, neginf=0)
            steps[(steps < 0) | (steps > MOST_STEPS)] = 0
            Image.fromarray(steps.astype(np.uint16)).save(folder / "depth" / name)
            lists["depth"].append(f"{stamp_text(frame.stamp)} depth/{name}\n")
        progress(len(lists["rgb"]))
    for kind, lines in lists.items():
        if lines:
            (folder / f"{kind}.txt").write_text("".join(lines))
    truth = source.truth()
    if truth is not None:
        write_tum(folder / "groundtruth.txt", truth)
    camera = source.camera
    if camera is not None and camera.model == "plumb_bob" and len(camera.distortion) <= 5:
        matrix, lens = camera.matrix, (*camera.distortion, 0, 0, 0, 0, 0)[:5]
        numbers = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *lens)
        text = " ".join(f"{float(number):.9g}" for number in numbers)
        (folder / "camera.txt").write_text(f"# fx fy cx cy k1 k2 p1 p2 k3\n{text}\n")


def write_kitti_source(source: Source, folder: Path, progress: Progress) -> None:
    """Write image_2/, times.txt, calib.txt, and poses.txt if every image has a true pose."""
    if source.camera is not None and bends(source.camera):
        raise SourceError(
            "KITTI folders hold undistorted images, but those of this recording are distorted: export tum "
            "or bag"
        )
    new_folder(folder)
    (folder / "image_2").mkdir()
    stamps: list[int] = []
    for frame in source.frames():
        Image.fromarray(frame.image).save(folder / "image_2" / f"{len(stamps):06d}.png")
        stamps.append(frame.stamp)
        progress(len(stamps))
    first = stamps[0] if stamps else 0
    (folder / "times.txt").write_text("".join(f"{stamp_text(stamp - first)}\n" for stamp in stamps))
    if source.camera is not None:
        projection = np.hstack([source.camera.matrix, np.zeros((3, 1))]).reshape(-1)
        row = " ".join(f"{value:.12e}" for value in projection)
        (folder / "calib.txt").write_text("".join(f"P{i}: {row}\n" for i in range(4)))
    truth = source.truth()
    if truth is None:
        return
    mine, theirs = associate(stamps, truth.stamps)
    if len(mine) < len(stamps):
        text = f"{len(stamps) - len(mine)} of {len(stamps)} images have no true pose: poses.txt is omitted"
        source.problems.add("no_poses", first, text)
        return
    poses = inverse(truth.T_map_camera[theirs][:1]) @ truth.T_map_camera[theirs]
    write_kitti(folder / "poses.txt", Trajectory(tuple(stamps), poses, (0,) * len(stamps)))
