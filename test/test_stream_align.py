from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden

from loger_ros.geometry import exp_rotation, inverse, transform
from loger_ros.stream.align import Aligner, Placement, join
from loger_ros.stream.scale import scale_between, trimmed_mean
from loger_ros.types import PosedFrame, Update


def test_trimmed_mean_is_the_published_one():
    units = golden("units")
    assert torch.allclose(trimmed_mean(units["trimmed_mean.x"][0]), units["trimmed_mean.y"][0], rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("median", 2.0),
        ("median_all", 3.0),
        ("trimmed_mean", 2.5),
        ("trimmed_mean_all", 3.75),
        ("sim3_avg1", 1.5),
    ],
)
def test_scale_modes_by_hand(mode, expected):
    known = torch.tensor([[[1.0, 2, 3, 100]], [[3, 4, 5, 5]]])  # two frames of one row
    assert scale_between(known, torch.ones_like(known), mode) == pytest.approx(expected)


def test_scale_uses_valid_pixels_only_and_stays_within_limits():
    one = torch.ones(1, 1, 5)
    known = torch.tensor([[[4.0, float("nan"), float("inf"), 4, 4]]])
    new = torch.tensor([[[2.0, 2, 2, 0, float("nan")]]])
    assert scale_between(known, new, "median") == 2
    assert scale_between(known[..., 1:3], new[..., 1:3], "median") == 1  # nothing valid
    assert scale_between(one * 1e6, one, "median") == 1e3
    assert scale_between(one * 1e-6, one, "trimmed_mean_all") == 1e-3


def test_a_frame_without_depth_leaves_the_scale_as_it_was():
    """It is the scale of the map relative to the chunk: 1 would be another scale."""
    nothing = torch.full((1, 2, 2, 3), float("nan"))
    frame = PosedFrame(0, np.eye(4), np.eye(6), False, 0)
    shared = Update((frame,), torch.zeros(1, 2, 2, 3), nothing, nothing[..., :1], 0, np.eye(4), 5.0)
    for alignment in ("sim3", "robust"):
        placed = Aligner(alignment).place(
            Placement(np.eye(4), 5.0), shared, np.eye(4)[None], nothing, nothing[..., :1], memory_lost=False
        )
        assert placed.scale == 5.0


def test_more_frames_on_one_side_are_ignored():
    assert scale_between(torch.full((3, 2, 2), 6.0), torch.full((2, 2, 2), 2.0), "median_all") == 3


def test_a_hundred_thousand_joins_stay_rigid_and_exact():
    """Each chunk has the same motion, in float32 as the network gives it; the exact end is known."""
    rng = np.random.default_rng(0)
    steps = 100_000
    gauge = transform(exp_rotation(rng.normal(size=3)), rng.normal(size=3))  # chunk frames are arbitrary
    motion = transform(exp_rotation(np.array([0.0, 2 * np.pi / 1000, 0.0])), np.array([0.1, 0.0, 0.02]))
    first = gauge.astype(np.float32).astype(float)
    last = (gauge @ motion).astype(np.float32).astype(float)
    here = np.eye(4)
    for _ in range(steps):
        placement = join(here, first)
        here = placement.poses(last[None])[0]
    assert np.abs(here[:3, :3] @ here[:3, :3].T - np.eye(3)).max() < 1e-6
    assert np.abs(placement.T_map_chunk[:3, :3] @ placement.T_map_chunk[:3, :3].T - np.eye(3)).max() < 1e-12
    # One hundred turns with float32 inputs, precise to 6e-8: only their lack of precision adds up.
    exact = np.linalg.matrix_power(inverse(first) @ last, steps)
    assert np.abs(exact[:3, :3] - here[:3, :3]).max() < 1e-2
    assert abs(np.linalg.det(here[:3, :3]) - 1) < 1e-6


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="alignment"):
        Aligner("sim4")
    with pytest.raises(ValueError, match="scale_mode"):
        Aligner("sim3", "mean")
