"""A model begins with the weights of another: of other patches, deeper or twice as wide, it says the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from networks import small_images, small_model
from torch.nn.functional import avg_pool2d, interpolate

from loger_ros.model import LoGeR, build_model
from loger_ros.training import take_over as take_over_module
from loger_ros.training.initialise import initialise, shut_memory
from loger_ros.training.take_over import take_over


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def twice_as_wide(model: LoGeR) -> LoGeR:
    """Initialised as the trainer does it."""
    config = model.config
    encoder, decoder = (
        dataclasses.replace(part, dim=2 * part.dim, num_heads=2 * part.num_heads)
        for part in (config.encoder, config.decoder)
    )
    wide = build_model(dataclasses.replace(config, encoder=encoder, decoder=decoder))
    initialise(wide, small_images(8)[0], generator())
    take_over(wide, model, generator())
    return wide


@torch.no_grad()
def said(model: LoGeR) -> list[torch.Tensor]:
    """Over three chunks with memory."""
    images, memory, told = small_images(10), model.initial_memory(), []
    for start in (0, 3, 6):
        prediction, memory = model.step(images[:, start : start + 4], memory, 4, 1)
        told += [prediction.local_points, prediction.confidence, prediction.camera_poses]
    return told


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_network_twice_as_wide_says_the_same(monkeypatch, pre_norm):
    """But for the finer patch filters, which are new."""
    model = small_model(ttt_pre_norm=pre_norm)
    before = said(model)
    assert not torch.equal(said(twice_as_wide(model))[-1], before[-1])
    monkeypatch.setattr(take_over_module, "_FINER", 0.0)
    for mine, others in zip(said(twice_as_wide(model)), before, strict=True):
        assert torch.allclose(mine, others, rtol=1e-4, atol=1e-4)


def deeper(model: LoGeR, pairs: int = 2) -> LoGeR:
    """Initialised as the trainer does it."""
    config = model.config
    last = config.decoder.depth - 2
    ttt, window = (
        tuple(place + 2 * pairs if place >= last else place for place in places)
        for places in (config.ttt_insert_after, config.attn_insert_after)
    )
    decoder = dataclasses.replace(config.decoder, depth=config.decoder.depth + 2 * pairs)
    deep = build_model(
        dataclasses.replace(config, decoder=decoder, ttt_insert_after=ttt, attn_insert_after=window)
    )
    initialise(deep, small_images(8)[0], generator())
    take_over(deep, model, generator())
    return deep


def test_a_deeper_network_says_the_same_and_can_say_more():
    model = small_model()
    deep = deeper(model)
    assert len(deep.decoder) == len(model.decoder) + 4
    for mine, others in zip(said(deep), said(model), strict=True):
        assert torch.equal(mine, others)
    prediction, _ = deep.step(small_images(4), deep.initial_memory(), 4, 1)
    prediction.camera_poses.square().sum().backward()
    first = len(model.decoder) - 2
    for block in deep.decoder[first : first + 4]:
        for scale in (block.ls1, block.ls2):
            assert scale.gamma.grad.abs().min() > 0
        assert block.attn.qkv.weight.std() > 0


def test_blocks_are_put_in_before_the_last_pair_alone():
    model = small_model()
    decoder = dataclasses.replace(model.config.decoder, depth=model.config.decoder.depth + 2)
    stays = build_model(dataclasses.replace(model.config, decoder=decoder))
    assert max(model.config.ttt_insert_after + model.config.attn_insert_after) >= len(model.decoder) - 2
    with pytest.raises(ValueError, match=r"decoder\.depth differs: pairs of blocks are inserted before"):
        take_over(stays, model, generator())
    with pytest.raises(ValueError, match=r"decoder\.depth differs|_insert_after differs"):
        take_over(model, deeper(model), generator())  # nor are they taken out


def test_its_copies_learn_apart():
    """Copies that get the same gradients would stay copies for ever."""
    wide = twice_as_wide(small_model())
    prediction, memory = wide.step(small_images(4), wide.initial_memory(), 4, 1)
    more, _ = wide.step(small_images(4, seed=1), memory, 4, 1)
    sum(
        part.square().sum() for p in (prediction, more) for part in (p.local_points, p.camera_poses)
    ).backward()
    for name in (
        "encoder.blocks.0.mlp.fc1",
        "decoder.1.attn.proj",
        "decoder.3.mlp.fc1",
        "swa_layers.0.mlp.fc2",
    ):
        one, other = wide.get_submodule(name).weight.grad.chunk(2)
        assert (one - other).norm() > 0.05 * one.norm(), name


@torch.no_grad()
def test_patches_of_another_size_see_and_draw_the_same():
    small = small_model(patch_size=7, encoder=dataclasses.replace(small_model().config.encoder, img_size=28))
    # Random filters would be noise at any size: those that the trainer starts from are waves.
    initialise(small, torch.rand(8, 3, 28, 28, generator=generator()), generator())
    config = small.config
    large = build_model(
        dataclasses.replace(config, patch_size=14, encoder=dataclasses.replace(config.encoder, img_size=56))
    )
    take_over(large, small, generator())
    image = torch.rand(1, 3, 3, 4, generator=generator())
    seen, twice = (interpolate(image, size, mode="bicubic", antialias=True) for size in ((21, 28), (42, 56)))
    a, b = (model.encoder.patch_embed.proj(x) for model, x in ((small, seen), (large, twice)))
    assert (a - b).norm() < 0.1 * a.norm()
    tokens = torch.rand(1, 12, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    a, b = (model.point_head(tokens, 3, 4) for model in (small, large))
    b = avg_pool2d(b.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert (a - b).norm() < 0.35 * a.norm()


@torch.no_grad()
def test_more_patches_are_where_those_were_that_they_come_from():
    """Of half the size and four times as many: each filter sees half of its old angle."""
    few = small_model()
    config, rows = few.config, few.encoder.grid
    few.encoder.pos_embed[0, 1:] = torch.linspace(-1, 1, rows).repeat_interleave(rows)[:, None]  # of the row
    encoder = dataclasses.replace(config.encoder, img_size=2 * config.encoder.img_size)
    many = build_model(dataclasses.replace(config, encoder=encoder))
    take_over(many, few, generator())
    table = many.encoder.pos_embed[0, 1:].unflatten(0, (2 * rows, 2 * rows))
    assert torch.equal(many.encoder.pos_embed[0, 0], few.encoder.pos_embed[0, 0])
    assert torch.allclose(table, table[:, :1].expand_as(table), atol=1e-5)
    inner = slice(2, -2)  # the edges are not smooth
    expected = interpolate(torch.linspace(-1, 1, rows)[None, None], 2 * rows, mode="linear")[0, 0]
    assert torch.allclose(table[inner, 0, 0], expected[inner], atol=0.1)


def test_a_model_of_other_sizes_is_no_start():
    model = small_model()
    config = model.config
    decoder, encoder = config.decoder, config.encoder
    for changes, reason in (
        ({"ttt_head_dim": 16}, "ttt_head_dim differs"),
        ({"ttt_pre_norm": not config.ttt_pre_norm}, "ttt_pre_norm differs"),
        ({"decoder": dataclasses.replace(decoder, num_heads=4)}, "decoder.num_heads differs"),
        (
            {
                "decoder": dataclasses.replace(decoder, dim=48, num_heads=6),
                "encoder": dataclasses.replace(encoder, dim=48, num_heads=6),
            },
            "decoder.dim differs",
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            take_over(build_model(dataclasses.replace(config, **changes)), model, generator())


def test_a_memory_that_is_shut_says_nothing():
    model = small_model()
    images = small_images(4, batch=2)
    with torch.no_grad():
        _, memory = model.step(images, model.initial_memory(), 4, 1)
        without, _ = model.step(
            images, model.initial_memory(), 4, 1, fast_weights=False, sliding_window=False
        )
        assert not torch.equal(model.step(images, memory, 4, 1)[0].camera_poses, without.camera_poses)
        shut_memory(model, window=True, fast_weights=True)
        assert torch.equal(model.step(images, memory, 4, 1)[0].camera_poses, without.camera_poses)
