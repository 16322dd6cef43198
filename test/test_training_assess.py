"""A model is judged by the stream that robots run, on whole sequences; blind guesses score as they must."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import small_model

from loger_ros.evaluation.trajectory import absolute_error, step_errors
from loger_ros.training.assess import assess, constant, still
from loger_ros.world import SequenceSpec, generate


def test_scores_of_a_model_and_of_blind_guesses():
    sequence = generate(SequenceSpec("rooms", "robot", frames=12, width=32, height=24), seed=2)
    model = small_model().requires_grad_(False)
    score = assess(model, sequence, (16, 12), chunk_size=4, overlap=1)
    assert score.frames == 12
    assert all(np.isfinite(value) for value in dataclasses.astuple(score))
    assert score.depth > 0.05  # random weights know no depth
    blind, steady = still(sequence), constant(sequence)
    assert blind.translation == pytest.approx(score.path / 11)
    assert steady.translation < blind.translation


def test_errors_know_their_alignment():
    rng = np.random.default_rng(0)
    truth = np.tile(np.eye(4), (20, 1, 1))
    truth[:, :3, 3] = rng.normal(size=(20, 3)).cumsum(0)
    moved = truth.copy()
    moved[:, :3, 3] = 2 * truth[:, :3, 3] + 5
    assert absolute_error(moved, truth, "sim3") < 1e-9
    assert absolute_error(moved, truth, "se3") > 0.1
    assert absolute_error(moved, truth, "none") > absolute_error(moved, truth, "se3")
    degrees, distances = step_errors(moved, truth)
    assert degrees.max() < 1e-6
    np.testing.assert_allclose(distances, np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1))
