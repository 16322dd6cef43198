"""How near the map is to the true cloud, whatever its unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.config import CloudConfig, MapConfig
from loger_ros.evaluation.clouds import cloud_errors, thinned
from loger_ros.evaluation.measure import measure
from loger_ros.evaluation.run import Run, Settings, _Take
from loger_ros.evaluation.sources import Choice, open_source
from loger_ros.evaluation.sources.base import quiet_log
from loger_ros.types import PosedFrame, Update

FRAMES = 12


def test_cloud_errors_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 3, (400, 3)) + 1000  # far from the origin
    made = true[:300] + rng.normal(0, 0.05, (300, 3))
    distances = np.linalg.norm(made[:, None] - true[None], axis=-1)
    errors = cloud_errors(made, true, threshold=0.08, voxel=1e-6)
    assert errors["accuracy"] == pytest.approx(distances.min(1).mean(), abs=1e-6)
    assert errors["completeness"] == pytest.approx(distances.min(0).mean(), abs=1e-6)
    precision, recall = (distances.min(1) < 0.08).mean(), (distances.min(0) < 0.08).mean()
    assert errors["f_score_percent"] == pytest.approx(200 * precision * recall / (precision + recall))
    assert errors["chamfer"] == pytest.approx((errors["accuracy"] + errors["completeness"]) / 2)
    assert cloud_errors(made[:0], true, 0.1, 0.05) == {}


def test_a_voxel_has_one_point_the_mean_of_its_own() -> None:
    points = np.array([[0.1, 0.1, 0.1], [-0.1, 0.1, 0.1], [0.3, 0.1, 0.9], [5.0, 5.0, 5.0]])
    np.testing.assert_allclose(thinned(points, 1.0), [[-0.1, 0.1, 0.1], [0.2, 0.1, 0.5], [5, 5, 5]])


def perfect_run(unit: float, **cloud: float) -> Run:
    """The truth of a sequence as a network would say it whose unit is so many metres."""
    source = open_source("robot_rooms/0", Choice(size=(64, 48)))
    settings = Settings(cloud=CloudConfig(stride=1, edge_tolerance=0, **cloud), map=MapConfig(interval=0))
    take = _Take(source, settings, torch.device("cpu"), quiet_log(), lambda: source.camera, 0)
    truth = source.truth()
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(source.camera.matrix).T
    for stamp, pose in list(zip(truth.stamps, truth.T_map_camera, strict=True))[: 10 * FRAMES : 10]:
        points = torch.from_numpy(rays * source.depth(stamp)[..., None] / unit).float()[None]
        pose = pose.copy()
        pose[:3, 3] /= unit
        frame = PosedFrame(stamp, pose, np.eye(6), True, 0)
        images, sure = torch.zeros(1, 48, 64, 3, dtype=torch.uint8), torch.full((1, 48, 64, 1), 9.0)
        take.frame(stamp, [Update((frame,), images, points, sure, 0, np.eye(4), 1.0)])
    return take.run({}, quiet_log(), source.camera)


def cloud_of(run: Run) -> dict:
    source = open_source("robot_rooms/0", Choice(size=(64, 48)))
    return measure(run, source.truth())["cloud"]["sim3"]


def test_a_perfect_map_is_perfect_in_any_unit() -> None:
    for unit in (0.25, 1.0, 2.0):
        errors = cloud_of(perfect_run(unit))
        assert errors["voxel"] == pytest.approx(max(unit, 1) * 0.05)
        assert errors["f_score_percent"] > 99.5, unit
    coarse = cloud_of(perfect_run(8.0))
    assert coarse["voxel"] == pytest.approx(0.4)
    assert coarse["f_score_percent"] is None, "points 0.4 m apart do not tell what is within 0.1 m"
    assert coarse["accuracy"] > 0


def test_what_the_map_leaves_out_is_not_missed() -> None:
    """Depths beyond the limits, which are in units of the map."""
    for unit in (1.0, 1.5):
        errors = cloud_of(perfect_run(unit, min_range=1.0 / unit, max_range=3.0 / unit))
        assert errors["recall_percent"] > 99.5, unit
