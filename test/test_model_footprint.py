"""Memory counted without a GPU: of what is plain to see, and of the published network."""

from __future__ import annotations

import torch
from networks import SMALL, small_model

from loger_ros.model import PRESETS
from loger_ros.model.footprint import Living, footprint, two_chunks


def test_it_counts_what_lives_and_what_lived_at_most() -> None:
    held = torch.empty(1000)
    with Living([held]) as living:
        held.view(10, 100).add_(1)
        assert (living.now, living.most) == (0, 0)
        double = torch.cat([held, held])
        part = double[5:]
        half = double.half()
        assert living.now == 8000 + 4000
        del double
        assert living.now == 8000 + 4000, "a view holds all of it"
        del part
        assert (living.now, living.most) == (4000, 12000)
        del half
        assert (living.now, living.most) == (0, 12000)


def test_the_weights_are_those_of_the_model() -> None:
    model = small_model()
    whole = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert footprint(SMALL, torch.float32, (12, 16), 5, 2).weights == whole
    model.hold_products(torch.bfloat16)
    halved = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert footprint(SMALL, torch.bfloat16, (12, 16), 5, 2).weights == halved < whole


def test_what_is_counted_is_what_a_step_takes() -> None:
    """Of another attention, which is fused on a CPU, too, it does not know all."""
    model = small_model()
    with Living([*model.parameters(), *model.buffers()]) as living:
        two_chunks(model, (48, 64), 5, 2)
    counted = footprint(SMALL, torch.float32, (48, 64), 5, 2).beside
    assert abs(counted / living.most - 1) < 0.02


def test_a_chunk_of_the_published_network_fits_beside_its_weights() -> None:
    weights, beside = footprint(PRESETS["loger"], torch.bfloat16, (434, 588), 32, 3, encode_batch=8)
    assert weights < 2.7e9
    assert beside < 4.7e9
