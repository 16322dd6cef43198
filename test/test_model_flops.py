"""The analytic count against torch's own counter."""

from __future__ import annotations

import dataclasses

import pytest
from networks import SMALL, small_images, small_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from loger_ros.model import PRESETS
from loger_ros.model.flops import PARTS, step_flops
from loger_ros.model.loger import OUTPUTS

_ROTATION = 24 * 2 * 4**3  # products of the rotation head per frame, not worth a line in the count


@pytest.mark.parametrize("outputs", [OUTPUTS, ("camera_poses",), ()])
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"ttt_update_steps": 2, "use_momentum": True}, {"ttt_insert_after": ()}]
)
def test_count(outputs, update, changes):
    model = small_model(**changes).requires_grad_(False)
    images = small_images(5)
    _, memory = model.step(images, model.initial_memory(), 5, 2)
    # The composite kernel is made of products that the counter sees; it misses the fused one on the CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.step(images, memory, 5, 2, outputs=outputs, update_memory=update)
    config = dataclasses.replace(SMALL, **changes)
    counted = step_flops(config, 5, (12, 16), history_frames=5, outputs=outputs, update=update)
    rotation = 5 * _ROTATION if "camera_poses" in outputs else 0
    assert sum(counted.values()) + rotation == counter.get_total_flops()


def test_official_model():
    counted = step_flops(PRESETS["loger_star"], 32, (280, 504), history_frames=32)
    assert tuple(counted) == PARTS
    assert sum(counted.values()) == pytest.approx(129e12, rel=0.01)
