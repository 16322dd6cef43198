from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from simulated_chunks import CASES, Faults, median_drift, simulate

from loger_ros.geometry import exp_rotation, transform
from loger_ros.stream.align import HOME, Aligner
from loger_ros.stream.robust import weighted_scale
from loger_ros.types import PosedFrame, Update

EXACT = Faults(0, (0, 0), (0, 0), 0, 0, 0, 0)


def update(poses, points, confidence):
    frames = tuple(PosedFrame(i, pose, np.eye(6), False, 0) for i, pose in enumerate(poses))
    return Update(frames, torch.zeros(len(frames), 1), points, confidence, 0, np.eye(4), 1.0)


def test_an_exact_chunk_is_placed_exactly_and_bad_frames_do_not_pull():
    truth, chunks = simulate(3, EXACT, chunks=2, size=12, overlap=7)
    turned = transform(exp_rotation(np.array([0.4, -1.0, 2.0])), np.array([3.0, -1.0, 5.0]))
    raw = turned @ truth[5:17]
    raw[:, :3, 3] *= 0.25
    for bad in (1, 4):  # the first frame is 0: all but these two are right
        raw[bad] = raw[bad] @ transform(exp_rotation(np.array([0.0, 0.3, 0.1])), np.array([1.0, 0.0, 0.3]))
    points, confidence = chunks[1][1], chunks[1][2]
    spoilt = points * 0.25
    spoilt[:, :4] *= 3  # a third of the picture has outlying depths, of low confidence
    unsure = confidence.clone()
    unsure[:, :4] = -3
    shared = update(truth[5:12], points[:7], confidence[:7])
    placement = Aligner("robust").place(HOME, shared, raw, spoilt, unsure, memory_lost=False)
    assert placement.scale == pytest.approx(4, rel=1e-5)
    placed = np.delete(placement.poses(raw), [1, 4], axis=0)
    assert np.abs(placed - np.delete(truth[5:17], [1, 4], axis=0)).max() < 0.02


def test_weighted_scale_is_the_weighted_median_of_usable_depths():
    known = torch.tensor([[[2.0, 4, 9, float("nan"), 5]]])
    new = torch.tensor([[[1.0, 1, 1, 1, 0]]])
    assert weighted_scale(known, new, torch.ones_like(known)) == 4
    assert weighted_scale(known, new, torch.tensor([[[9.0, 1, 1, 1, 1]]])) == 2
    assert weighted_scale(known, new, torch.zeros_like(known)) is None
    assert weighted_scale(known[..., 3:], new[..., 3:], torch.ones(1, 1, 2)) is None


@pytest.mark.parametrize("name", ["mild", "bad frames", "many outliers", "everything"])
def test_it_drifts_less_than_the_published_joins(name):
    drift = median_drift(replace(CASES[name]), range(6), chunks=12)
    assert drift["robust"] < 0.9 * drift["sim3 median"], drift
    assert drift["robust"] < 1.1 * drift["sim3 median_all"], drift
