"""Textures and the faults of cameras."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loger_ros.world import PRESETS, Effects, SequenceSpec, generate
from loger_ros.world.effects import develop, pixel_noise
from loger_ros.world.paint.atlas import SIZE, atlas
from loger_ros.world.paint.families import FAMILIES, paint
from loger_ros.world.paint.textures import by_role, roster


def test_training_and_validation_never_see_the_test_textures() -> None:
    splits = [roster(split) for split in ("train", "validation", "test")]
    families = [{name.split(".")[0] for name in names} for names in splits]
    assert families[0] == families[1] < families[2]  # whole families are unseen
    assert set(by_role("train")) == set(by_role("validation")) == set(by_role("test"))
    small = [{paint(name, 32).tobytes() for name in names} for names in splits]
    assert [len(images) for images in small] == [len(names) for names in splits]
    assert len(set.union(*small)) == sum(map(len, splits)), "none is in two splits"
    with pytest.raises(ValueError, match="split must be one of"):
        roster("holdout")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texture_is_its_name_and_has_something_to_see(family: str) -> None:
    image = paint(f"{family}.100", 64)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, paint(f"{family}.100", 64))
    assert image.std() > 3


@pytest.mark.parametrize("family", ["brick", "carpet", "paving", "cobbles", "planks", "plaster", "facade"])
def test_surfaces_tile(family: str) -> None:
    """The seam is no sharper than the picture's own edges."""
    image = paint(f"{family}.1", 128).astype(float)
    for axis in (0, 1):
        inside = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(np.take(image, 0, axis) - np.take(image, -1, axis)).mean()
        assert seam <= inside.max() + 1


def test_the_atlas_gives_back_what_was_painted() -> None:
    book = atlas("train", torch.device("cpu"))
    number = 5
    book.ensure([number])
    image = paint(book.names[number], SIZE) / 255.0
    rows, columns = np.array([0, 17, 255]), np.array([3, 200, 255])
    u, v = (torch.from_numpy((index + 0.5) / SIZE).float() for index in (columns, rows))
    texture = torch.full((3,), number, dtype=torch.int32)
    sharp = torch.stack(book.sample(texture, u, v, torch.full((3,), 0.5)), -1)
    assert np.abs(sharp.numpy() - image[rows, columns]).max() < 0.01
    coarse = torch.stack(book.sample(texture, u, v, torch.full((3,), 1e4)), -1)
    assert np.abs(coarse.numpy() - image.mean((0, 1))).max() < 0.02
    around = torch.stack(book.sample(texture, u + 3, v - 2, torch.full((3,), 0.5)), -1)
    assert (around - sharp).abs().max() < 0.02


def test_effects_do_not_depend_on_the_batch() -> None:
    light = torch.rand(6, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(10, 16)
    whole = develop(light, PRESETS["harsh"], numbers, 4)
    alone = develop(light[3:4], PRESETS["harsh"], numbers[3:4], 4)
    assert torch.equal(whole[3:4], alone)
    assert not torch.equal(develop(light[3:4], PRESETS["harsh"], numbers[3:4], 5), alone)


def test_noise_is_white_and_of_the_strength_asked_for() -> None:
    noise = pixel_noise((3, 60, 80), torch.arange(20), 7)
    assert abs(noise.mean().item()) < 0.01
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert abs((noise[1:] * noise[:-1]).mean().item()) < 0.01
    assert abs((noise[..., 1:] * noise[..., :-1]).mean().item()) < 0.01
    grey = torch.full((4, 3, 40, 40), 0.5)
    seen = develop(grey, Effects(noise=0.05), torch.arange(4), 1).float() / 255
    assert seen.std().item() == pytest.approx(0.05 * (0.15 + 0.85 * 0.5) ** 0.5, rel=0.05)


def test_each_effect_does_its_own() -> None:
    grey = torch.full((200, 3, 24, 32), 0.4)
    numbers = torch.arange(200)

    def seen(**effect: float) -> torch.Tensor:
        return develop(grey, Effects(**effect), numbers, 3).float() / 255

    assert (seen() - 0.4).abs().max() < 0.005
    exposure = seen(exposure=0.3).mean((1, 2, 3)).log2()
    assert 0.15 < exposure.std() < 0.5
    assert (exposure[1:] - exposure[:-1]).abs().max() < 0.06  # slow
    corner, middle = seen(vignetting=0.4)[0, 0, 0, 0], seen(vignetting=0.4)[0, 12, 16, 0]
    assert corner / middle == pytest.approx(0.6, abs=0.03)
    assert seen(dimness=0.75).mean().item() == pytest.approx(0.1, abs=0.005)
    rows = seen(flicker=0.1)[..., 0].mean(2)
    assert rows.std(1).min() > 0.01
    assert (rows[1:] - rows[:-1]).abs().max() > 0.01  # it rolls
    with pytest.raises(ValueError, match="noise = 3"):
        Effects(noise=3)


def test_motion_blurs_along_the_motion_only() -> None:
    spec = SequenceSpec(frames=60, width=64, height=48)
    sharp = generate(spec, 2)
    blurred = generate(SequenceSpec(frames=60, width=64, height=48, effects=Effects(blur=0.8)), 2)
    speed = np.linalg.norm(np.diff(sharp.T_world_camera, axis=0).reshape(59, -1), axis=1)
    fast = int(speed.argmax())
    a, b = sharp.render(fast, fast + 1), blurred.render(fast, fast + 1)
    assert torch.equal(a.depth, b.depth)

    def contrast(rgb: torch.Tensor) -> float:
        return (rgb[:, :, 1:].float() - rgb[:, :, :-1].float()).abs().mean().item()

    assert contrast(b.rgb) < 0.95 * contrast(a.rgb)
    ends = blurred.render(0, 1), sharp.render(0, 1)  # at rest there is nothing to blur
    moved = np.abs(sharp.T_world_camera[1] - sharp.T_world_camera[0]).max()
    assert moved > 1e-3 or torch.equal(ends[0].rgb, ends[1].rgb)
