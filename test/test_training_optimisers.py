"""Muon as we have it: many small matrices at once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from loger_ros.training.optimisers import Muon, nearly_orthogonal, set_rates
from loger_ros.training.recipe import Stage

SHAPES = [(16, 16), (16, 16), (48, 16), (8, 40), (16, 48)]


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (2, 8, 24)])
def test_singular_values_come_near_to_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = nearly_orthogonal(matrices)
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert torch.linalg.svdvals(matrices)[:, 0].min() > 3
    assert ((values > 0.2) & (values < 1.3)).all()
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    turned = u.mT @ found @ v.mT  # diagonal: the singular vectors are the same
    assert (turned - torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-4


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9")
def test_it_steps_as_that_of_torch_and_goes_on_from_the_state_of_that():
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    optimiser = Muon(ours, lr=0.01, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", ns_steps=4)
    for number in range(6):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            its.grad = mine.grad.clone()
        if number == 3:
            optimiser = Muon(ours, lr=0.01, weight_decay=0.1)
            optimiser.load_state_dict(copy.deepcopy(other.state_dict()))
        optimiser.step()
        other.step()
    for mine, its, before in zip(ours, theirs, start, strict=True):
        way = (its - before).norm()
        assert way > 0
        assert (mine - its).norm() < 0.03 * way  # theirs rounds to bfloat16


def test_what_has_no_gradient_stays():
    still, moved = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moved.grad = torch.eye(4)
    Muon([still, moved], lr=0.1, weight_decay=0.1).step()
    assert (still == 1).all()
    assert (moved != 1).all()


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.0), (0.05, 0.5), (0.1, 0.976), (0.5, 0.51), (1.0, 0.02)]
)
def test_rates_rise_then_fall_along_a_cosine(progress, share):
    stage = Stage("test", 100, 10, (2,), learning_rate=3.0, muon_rate=5.0, warm_up=0.1)
    matrix = torch.nn.Parameter(torch.zeros(2, 2))
    optimisers = [Muon([matrix], lr=1.0, weight_decay=0.0), torch.optim.AdamW([matrix], lr=1.0)]
    set_rates(optimisers, stage, progress)
    muon, adamw = (optimiser.param_groups[0]["lr"] for optimiser in optimisers)
    assert muon / 5 == pytest.approx(share, abs=0.005)
    assert adamw / 3 == pytest.approx(muon / 5)
