"""Pictures of the cloud of one run, with the estimated and the true trajectory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from loger_ros.evaluation.measure import Matched
from loger_ros.evaluation.run import Run
from loger_ros.evaluation.trajectory import Similarity, placing
from loger_ros.mapping.pictures import (
    ESTIMATE,
    TRUTH,
    Scene,
    Track,
    along_the_path,
    from_above,
    from_the_side,
    levelling,
)


def cloud_pictures(run: Run, matched: Matched | None, point_size: float, title: str) -> dict[str, bytes]:
    """PNG data by name, aligned to the truth by Sim(3) if there is one. Empty without points or poses."""
    if not len(run.cloud) or not len(run.trajectory):
        return {}
    scene = _scene(run, matched, point_size)
    made = {
        "cloud_above": from_above(scene, title),
        "cloud_aside": from_the_side(scene),
        "cloud_along": along_the_path(scene),
    }
    return {name: _png(image) for name, image in made.items()}


def _scene(run: Run, matched: Matched | None, point_size: float) -> Scene:
    similarity, true = Similarity(1.0, np.eye(3), np.zeros(3)), None
    if matched is not None:
        similarity = placing(matched.poses, matched.truth, "sim3")
        true = matched.truth
    made = similarity.poses(run.trajectory.T_map_camera)
    level = levelling(made if true is None else true)
    tracks = [Track("estimate", level @ made, ESTIMATE)]
    if true is not None:
        tracks.append(Track("truth", level @ true, TRUTH))
    points = similarity.points(run.cloud.points.numpy().astype(np.float64)) @ level[:3, :3].T
    unit = "map units" if true is None else "m"
    return Scene(points, run.cloud.colours.numpy(), tracks, max(similarity.scale * point_size, 1e-6), unit)


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
