"""How good the demo's drive was: one line of numbers against the truth, and one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from loger_ros.evaluation.trajectory import absolute_error, alignment, path_length, placing
from loger_ros.geometry import BODY_FROM_OPTICAL
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.pictures import (
    ESTIMATE,
    TRUTH,
    Scene,
    Track,
    along_the_path,
    from_above,
    from_the_side,
)
from loger_ros.mapping.render import PAPER
from loger_ros.types import Trajectory

GAP = 12  # pixels
WIDTH = 1400  # pixels of a wide picture
WIDE = 1.2  # if the chart is wider than this times its height, the other views go below it


@dataclass(frozen=True, eq=False)
class Drive:
    """Poses of the robot's base that have a true pose, in order."""

    estimate: np.ndarray  # (N, 4, 4) in the map
    truth: np.ndarray  # (N, 4, 4) in the world
    images: int  # number that the camera sent

    @classmethod
    def of(cls, trajectory: Trajectory, truth: Mapping[int, np.ndarray]) -> Drive:
        known = [i for i, stamp in enumerate(trajectory.stamps) if stamp in truth]
        true = [truth[trajectory.stamps[i]] for i in known]
        return cls(trajectory.T_map_camera[known], np.array(true).reshape(-1, 4, 4), len(truth))

    def summary(self) -> str:
        """One line."""
        error = absolute_error(self.estimate, self.truth, "se3")
        way = path_length(self.truth)
        scaled = alignment(self.estimate, self.truth, "sim3").scale
        return (
            f"ATE {error:.2f} m over {way:.1f} m of path ({100 * error / max(way, 1e-9):.1f} %), "
            f"{len(self.estimate)} of {self.images} images; best scale {scaled:.2f}"
        )

    def scene(self, cloud: Cloud, point_size: float, camera_height: float) -> Scene:
        """Return the map with the truth aligned to the estimate; the tracks are those of the camera."""
        mount = BODY_FROM_OPTICAL.copy()
        mount[2, 3] = camera_height
        laid = placing(self.truth, self.estimate, "se3").poses(self.truth)
        tracks = [
            Track("estimate", self.estimate @ mount, ESTIMATE),
            Track("truth", laid @ mount, TRUTH),
        ]
        return Scene(cloud.points.numpy(), cloud.colours.numpy(), tracks, point_size).without_strays()


def picture(scene: Scene, title: str) -> Image.Image:
    """Draw the path from above, and beside it (below it if wide) the map from the side and along the path."""
    chart = from_above(scene, title)
    if chart.width > WIDE * chart.height:
        chart = from_above(scene, title, WIDTH)
        half = (chart.width - GAP) // 2
        size = (half, half * 2 // 3)
        sheet = Image.new("RGB", (chart.width, chart.height + size[1]), PAPER)
        places = [(0, chart.height), (half + GAP, chart.height)]
    else:
        half = (chart.height - GAP) // 2
        size = (half * 3 // 2, half)
        sheet = Image.new("RGB", (chart.width + GAP + size[0], chart.height), PAPER)
        places = [(chart.width + GAP, 0), (chart.width + GAP, half + GAP)]
    sheet.paste(chart, (0, 0))
    for view, place in zip((from_the_side, along_the_path), places, strict=True):
        sheet.paste(view(scene, *size), place)
    return sheet
