"""Training needs exact gradients: finite differences in float64, through memory and rotation head alike."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
import torch
from networks import small_images, small_model

from loger_ros.model.config import Pi3xConfig
from loger_ros.model.rotation import nearest_rotation


def clip_loss(model, images, weights) -> torch.Tensor:
    """Two chunks, the second of which remembers the first."""
    memory = model.initial_memory()
    total = torch.zeros((), dtype=torch.float64)
    for start in (0, 2):
        prediction, memory = model.step(images[:, start : start + 3], memory, 3, 1)
        for name, weight in weights.items():
            total = total + (getattr(prediction, name) * weight).mean()
    return total


@pytest.mark.parametrize(
    ("changes", "step", "parts"),
    [
        ({"ttt_pre_norm": True, "use_momentum": True, "ttt_update_steps": 2}, 1e-6, ""),
        # A large step would cross the kinks of the many rectifiers of the convolutional head.
        (
            {"pi3x": True, "pi3x_dims": Pi3xConfig(upsample=(16,), metric_dim=8, metric_heads=2)},
            1e-8,
            "point_head|metric",
        ),
    ],
    ids=["LoGeR", "pi3x"],
)
def test_every_parameter_has_its_true_gradient(changes, step, parts):
    model = small_model(**changes).double()
    images = small_images(5).double()
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "local_points": (1, 3, 12, 16, 3),
        "confidence": (1, 3, 12, 16, 1),
        "camera_poses": (1, 3, 4, 4),
    }
    weights = {k: torch.randn(s, generator=generator, dtype=torch.float64) for k, s in shapes.items()}
    clip_loss(model, images, weights).backward()
    roles: dict[str, list] = defaultdict(list)  # the same tensor of every layer is moved at once
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if re.match(parts, name):
            roles[re.sub(r"\d+", "#", name)].append((parameter, direction))
    for name, moved in roles.items():
        slope = sum(float((parameter.grad * direction).sum()) for parameter, direction in moved)
        values = []
        with torch.no_grad():
            for sign in (1, -1):
                for parameter, direction in moved:
                    parameter.add_(direction, alpha=sign * step)
                values.append(float(clip_loss(model, images, weights)))
                for parameter, direction in moved:
                    parameter.sub_(direction, alpha=sign * step)
        difference = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(difference, rel=1e-4, abs=1e-6), name


def rotations_and_others() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    mirrored = torch.diag(torch.tensor([1.0, 1.0, -0.4], dtype=torch.float64)).expand(3, 3, 3)
    return {
        "identity": torch.eye(3, dtype=torch.float64).expand(3, 3, 3).clone(),
        "near identity": torch.eye(3, dtype=torch.float64) + 1e-9 * noise,
        "anything": noise,
        "mirrored": mirrored + 0.05 * noise,
        "small": 1e-3 * (torch.eye(3, dtype=torch.float64) + 0.3 * noise),
    }


@pytest.mark.parametrize("kind", [kind for kind in rotations_and_others() if kind != "small"])
def test_rotation_gradient(kind):
    m = rotations_and_others()[kind].requires_grad_()
    assert torch.autograd.gradcheck(nearest_rotation, (m,), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", rotations_and_others())
def test_rotation_is_the_nearest_one(kind):
    m = rotations_and_others()[kind]
    r = nearest_rotation(m)
    u, _, vt = torch.linalg.svd(m)
    sign = torch.ones(3, 3, dtype=torch.float64)
    sign[:, 2] = torch.linalg.det(u @ vt)
    assert torch.allclose(r, (u * sign[:, None]) @ vt, atol=1e-9)
    assert torch.allclose(r @ r.mT, torch.eye(3, dtype=torch.float64).expand_as(r), atol=1e-12)


def test_rotation_where_it_is_undefined_stays_finite():
    m = torch.stack([torch.zeros(3, 3), torch.diag(torch.tensor([1.0, 1.0, -1.0]))]).requires_grad_()
    r = nearest_rotation(m)
    r.sum().backward()
    assert torch.isfinite(r).all()
    assert torch.isfinite(m.grad).all()
