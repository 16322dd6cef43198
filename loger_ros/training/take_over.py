"""Start a model with the weights of a trained one: with other patches, deeper, or twice as wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from loger_ros.model import LoGeR
from loger_ros.model.layers import LayerScale, Linear
from loger_ros.training.recipe import RecipeError

_WIDTHS = ("encoder.dim", "encoder.num_heads", "decoder.dim", "decoder.num_heads")
_DEPTHS = ("decoder.depth", "ttt_insert_after", "attn_insert_after")
_PAIR = 2  # blocks: one within frames, one between them
_FINER = 0.5  # weight of the new patch filters next to the trained ones
_APART = 0.5  # noise that sets the weights of an input's two copies apart, relative to their deviation


@torch.no_grad()
def take_over(model: LoGeR, trained: LoGeR, generator: torch.Generator) -> None:
    """Patches may differ in size and in number: filters and the table of positions are resampled. With as
    many patches, the outputs are the same at once; with more, the model has to learn what they see.

    Deeper: pairs of blocks are inserted before the last pair, whose tokens the heads see. They have no
    effect yet.

    Twice as wide, with heads as wide as before: every feature exists twice. Each layer takes half of either
    copy, so the outputs are the same. Copies that stay equal would learn the same, so one has the finer
    filters of ``model`` added and the other has them subtracted, and layers weight one copy a little more and
    the other as much less.
    """
    differing = _differing(trained, model)
    doubled = (
        differing >= set(_WIDTHS)
        and not model.config.use_momentum
        and all(new == 2 * old for old, new in (_both(trained, model, name) for name in _WIDTHS))
    )
    deeper = _deeper(trained, model)
    differing -= {
        "patch_size",
        "encoder.img_size",
        *(_WIDTHS if doubled else ()),
        *(_DEPTHS if deeper else ()),
    }
    if differing:
        cure = ""
        if differing <= set(_DEPTHS) and model.config.decoder.depth > trained.config.decoder.depth:
            cure = (
                ": pairs of blocks are inserted before the last pair, and memories of the last pair move "
                "with it, so raise their indices by the number of blocks inserted"
            )
        raise RecipeError(f"the model to start from does not fit the recipe: {min(differing)} differs{cure}")
    silent = range(trained.config.decoder.depth - _PAIR, model.config.decoder.depth - _PAIR)
    for block in silent:
        for scale in (model.decoder[block].ls1, model.decoder[block].ls2):
            cast(LayerScale, scale).gamma.zero_()
    theirs = _moved(trained.state_dict(), silent)
    ratio = trained.config.patch_size / model.config.patch_size
    linear = {name for name, module in model.named_modules() if isinstance(module, Linear)}
    for name, own in model.state_dict().items():
        if name not in theirs:
            continue  # of an inserted block
        other = theirs[name]
        if name == "encoder.patch_embed.proj.weight":
            other = _resampled(other, model.config.patch_size) * ratio**2  # as many times fewer pixels
        elif name == "encoder.pos_embed":
            grid = other[0, 1:].T.unflatten(1, (trained.encoder.grid, -1))
            grid = _resampled(grid, model.encoder.grid).flatten(1).T
            other = torch.cat([other[:, :1], grid[None]], 1)
        elif name.startswith(("point_head.proj.", "conf_head.proj.")):
            patches = other.unflatten(0, (-1, trained.config.patch_size, trained.config.patch_size))
            patches = patches.movedim((1, 2), (-2, -1))  # channels, (inputs,) rows, columns
            other = _resampled(patches, model.config.patch_size).movedim((-2, -1), (1, 2)).flatten(0, 2)
        if doubled and name.startswith("encoder.patch_embed.proj."):
            finer = _FINER * own[len(other) :]
            other = torch.cat([other + finer, other - finer])
        elif doubled:
            layer, _, kind = name.rpartition(".")
            other = _twice(other, own.shape, layer, layer in linear and kind == "weight", generator)
        own.copy_(other)


def _deeper(trained: LoGeR, model: LoGeR) -> bool:
    """Whether the models differ in depth only by pairs of blocks before the last pair."""
    old, new = trained.config, model.config
    added = new.decoder.depth - old.decoder.depth
    last = old.decoder.depth - _PAIR

    def moved(places: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place + added if place >= last else place for place in places)

    return (
        added >= 0
        and added % _PAIR == 0
        and moved(old.ttt_insert_after) == new.ttt_insert_after
        and moved(old.attn_insert_after) == new.attn_insert_after
    )


def _moved(weights: Mapping[str, Tensor], added: range) -> dict[str, Tensor]:
    """Rename the blocks of the last pair to where they are now."""
    return {
        f"decoder.{int(parts[1]) + len(added)}.{parts[2]}"
        if name.startswith("decoder.") and int((parts := name.split(".", 2))[1]) >= added.start
        else name: weight
        for name, weight in weights.items()
    }


def _twice(
    weight: Tensor, shape: torch.Size, layer: str, product: bool, generator: torch.Generator
) -> Tensor:
    """Double a weight along the axes that are twice as long in ``shape``. product: axis 1 is summed over."""
    for axis, (old, new) in enumerate(zip(weight.shape, shape, strict=True)):
        if new != 2 * old:
            continue
        parts = _parts(layer, axis)
        copies = torch.stack(2 * [weight.unflatten(axis, (parts, -1))], axis + 1)
        if product and axis == 1:
            noise = torch.randn(copies.select(axis + 1, 0).shape, generator=generator)
            noise *= _APART * weight.std()
            copies = (copies + torch.stack([noise, -noise], axis + 1)) / 2
        weight = copies.flatten(axis, axis + 2)
    return weight


def _parts(layer: str, axis: int) -> int:
    """Return how many vectors are concatenated along an axis; each is doubled by itself."""
    if axis == 0 and layer.endswith(("qkv", "lr_fc")):
        return 3
    return 2 if axis == 1 and layer.endswith("projects") else 1  # states of the last two blocks


def _differing(a: LoGeR, b: LoGeR) -> set[str]:
    return {name for name, _ in _entries(a.config.to_dict()).items() ^ _entries(b.config.to_dict()).items()}


def _both(a: LoGeR, b: LoGeR, name: str) -> tuple[int, int]:
    section, field = name.split(".")
    return tuple(getattr(getattr(model.config, section), field) for model in (a, b))  # type: ignore[return-value]


def _entries(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Sections flattened; values as text, so that they can stand in sets."""
    entries: dict[str, str] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        entries |= _entries(value, f"{prefix}{name}.") if inner else {prefix + name: repr(value)}
    return entries


def _resampled(patches: Tensor, size: int) -> Tensor:
    """(..., rows, columns) → (..., size, size)"""
    flat = patches.float().reshape(1, -1, *patches.shape[-2:])
    resized = interpolate(flat, (size, size), mode="bicubic", antialias=True)
    return resized.reshape(*patches.shape[:-2], size, size)
