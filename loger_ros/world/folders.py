"""Sequences as folders that other tools read: TUM-style and KITTI-style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from loger_ros.geometry import inverse
from loger_ros.mapping.trajectory_files import stamp_text, write_kitti, write_tum
from loger_ros.types import Trajectory
from loger_ros.world.sequences import Sequence

TUM_DEPTH_SCALE = 5000  # steps per metre

Progress = Callable[[int], None]  # is told the number of frames written


def quiet(frames: int) -> None:
    pass


def write_tum_folder(sequence: Sequence, folder: Path, progress: Progress = quiet) -> None:
    """rgb/ and 16-bit depth/ (5000 per metre, 0: none), their lists, groundtruth.txt, camera.txt."""
    _make_empty(folder)
    for name in ("rgb", "depth"):
        (folder / name).mkdir()
    lists: dict[str, list[str]] = {"rgb": [], "depth": []}
    for clip in sequence.clips():
        depth = clip.depth.cpu().numpy().astype(np.float64) * TUM_DEPTH_SCALE
        depth = np.where(depth < 65535.5, np.round(depth), 0).astype(np.uint16)  # sky and what is too far: 0
        for frame, metres in zip(clip.frames(), depth, strict=True):
            stamp = stamp_text(frame.stamp)
            for name, image in (("rgb", frame.image), ("depth", metres)):
                file = f"{name}/{stamp}.png"
                Image.fromarray(image).save(folder / file)
                lists[name].append(f"{stamp} {file}\n")
        progress(len(lists["rgb"]))
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(lines))
    write_tum(folder / "groundtruth.txt", _trajectory(sequence, sequence.T_world_camera))
    camera = sequence.camera
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, *(camera.distortion or (0.0,) * 5))
    (folder / "camera.txt").write_text(
        f"# fx fy cx cy k1 k2 p1 p2 k3\n{' '.join(f'{value:.9g}' for value in numbers)}\n"
    )


def write_kitti_folder(sequence: Sequence, folder: Path, progress: Progress = quiet) -> None:
    """image_2/, times.txt, calib.txt and poses.txt (camera to first camera), as in the odometry benchmark."""
    if any(sequence.camera.distortion):
        raise ValueError("KITTI folders hold undistorted images: choose a camera without distortion")
    _make_empty(folder)
    (folder / "image_2").mkdir()
    number = 0
    for clip in sequence.clips():
        for frame in clip.frames():
            Image.fromarray(frame.image).save(folder / "image_2" / f"{number:06d}.png")
            number += 1
        progress(number)
    projection = np.hstack([sequence.camera.matrix(), np.zeros((3, 1))]).reshape(-1)
    row = " ".join(f"{value:.12e}" for value in projection)
    (folder / "calib.txt").write_text("".join(f"P{i}: {row}\n" for i in range(4)))
    first = sequence.stamps[0]
    (folder / "times.txt").write_text("".join(f"{stamp_text(int(s - first))}\n" for s in sequence.stamps))
    poses = inverse(sequence.T_world_camera[:1]) @ sequence.T_world_camera
    write_kitti(folder / "poses.txt", _trajectory(sequence, poses))


def _trajectory(sequence: Sequence, poses: np.ndarray) -> Trajectory:
    return Trajectory(tuple(int(stamp) for stamp in sequence.stamps), poses, (0,) * len(sequence))


def _make_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: choose a new folder, or remove its contents first")
    folder.mkdir(parents=True, exist_ok=True)
