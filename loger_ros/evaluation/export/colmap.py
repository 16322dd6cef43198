"""A result in the layout of COLMAP's sparse models, from which Gaussian-splat trainers start.

The folder has images/ and sparse/0/ with cameras.txt, images.txt and points3D.txt. COLMAP's poses take points
of the map to the camera, and the centre of its first pixel is (0.5, 0.5). The points have no tracks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from loger_ros.evaluation.export.place import new_folder
from loger_ros.evaluation.run import Settings, chosen, usable_camera
from loger_ros.evaluation.sources import Source, SourceError
from loger_ros.geometry import inverse, quaternion
from loger_ros.mapping.cloud import Cloud
from loger_ros.stream.lens import bends, scaled
from loger_ros.stream.prepare import Undistorter
from loger_ros.types import Camera, Trajectory

MOST_POINTS = 500_000
POINTS = "# POINT3D_ID, X, Y, Z, R, G, B, ERROR; no tracks\n"
Progress = Callable[[int], None]


def write_colmap(
    source: Source,
    settings: Settings,
    trajectory: Trajectory,
    cloud: Cloud | None,
    seen_by: Camera,
    folder: Path,
    progress: Progress,
) -> None:
    """seen_by: the camera of the network's images, used if the recording does not know its own."""
    new_folder(folder)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (folder / "images").mkdir()
    usable = usable_camera(source, settings, source.problems)
    straighten = Undistorter(usable) if usable is not None and bends(usable) else None
    poses = dict(zip(trajectory.stamps, trajectory.T_map_camera, strict=True))
    camera: Camera | None = None
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then its points\n"]
    count = 0
    for frame in chosen(source, settings):
        pose = poses.get(frame.stamp)
        if pose is None:
            continue
        image = straighten(frame.image) if straighten else frame.image
        if camera is None:
            camera = _camera(source, straighten, seen_by, image)
        if image.shape[:2] != (camera.height, camera.width):
            raise SourceError("the images have different sizes, but a COLMAP camera has one size")
        count += 1
        name = f"{count:06d}.png"
        Image.fromarray(image).save(folder / "images" / name)
        there = inverse(pose)
        x, y, z, w = quaternion(there[:3, :3]).tolist()
        numbers = [w, x, y, z, *there[:3, 3].tolist()]
        lines.append(f"{count} {' '.join(f'{number:.9g}' for number in numbers)} 1 {name}\n\n")
        progress(count)
    if camera is None:
        raise SourceError("no image of the recording has a pose in the result. Is it the same recording?")
    (model / "images.txt").write_text("".join(lines))
    (model / "cameras.txt").write_text(_cameras(camera))
    (model / "points3D.txt").write_text(POINTS + ("" if cloud is None else _points(cloud)))


def _camera(source: Source, straighten: Undistorter | None, seen_by: Camera, image: np.ndarray) -> Camera:
    if straighten is not None:
        return straighten.camera
    if source.camera is not None and not bends(source.camera):
        return source.camera
    return scaled(seen_by, (image.shape[1], image.shape[0]))


def _cameras(camera: Camera) -> str:
    fx, fy = camera.matrix[0, 0], camera.matrix[1, 1]
    cx, cy = camera.matrix[:2, 2] + 0.5
    numbers = f"{camera.width} {camera.height} {fx:.9g} {fy:.9g} {cx:.9g} {cy:.9g}"
    return f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY\n1 PINHOLE {numbers}\n"


def _points(cloud: Cloud) -> str:
    """At most MOST_POINTS lines, of the most confident points."""
    order = np.argsort(-cloud.confidence.numpy(), kind="stable")[:MOST_POINTS]
    points, colours = cloud.points.numpy()[order], cloud.colours.numpy()[order]
    lines = [
        f"{i} {x:.7g} {y:.7g} {z:.7g} {red} {green} {blue} 0\n"
        for i, ((x, y, z), (red, green, blue)) in enumerate(
            zip(points.tolist(), colours.tolist(), strict=True), 1
        )
    ]
    return "".join(lines)
