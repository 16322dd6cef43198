"""Whether a set of tensors fits a model; if not, what differs and which model they look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from loger_ros.model.catalog import PUBLISHED
from loger_ros.model.config import PRESETS, ModelConfig
from loger_ros.model.loger import LoGeR

_SHOWN = 4


def meta_model(config: ModelConfig) -> LoGeR:
    """Return a model that has names and shapes but takes no memory."""
    with torch.device("meta"):
        return LoGeR(config)


def matching_preset(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the published model that has exactly these tensors, or None."""
    candidates = (name for name in PUBLISHED if plausible(PRESETS[name], tensors))
    return next((name for name in candidates if not _differences(tensors, _shapes(PRESETS[name]))), None)


def plausible(config: ModelConfig, tensors: Mapping[str, Tensor]) -> bool:
    """Return False if a config has more layers than there are tensors: do not build it, not even on meta."""
    layers = config.encoder.depth + config.decoder.depth + 2 * config.heads.depth
    return layers <= len(tensors)


def misfit(tensors: Mapping[str, Tensor], model: LoGeR, asked_for: str) -> str | None:
    """Return None if all names and shapes match the model, else a sentence that says what is wrong."""
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    differences = _differences(tensors, expected)
    if not differences:
        return None
    sentence = f"it does not fit {asked_for}: {'; '.join(differences)}."
    prefix = _foreign_prefix(tensors, expected)
    if prefix:
        return f"{sentence} Its names begin with {prefix!r}: save it without that prefix"
    other = matching_preset(tensors)
    if other:
        return f"{sentence} This looks like {PUBLISHED[other].title}: load it as {other!r}"
    if not expected.keys() & tensors.keys():
        return f"{sentence} These are the weights of another network"
    return sentence.rstrip(".")


@lru_cache(maxsize=4)
def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in meta_model(config).state_dict().items()}


def _differences(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> list[str]:
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshaped = [
        f"{name} {_size(tensors[name].shape)} instead of {_size(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    return [_listed(names, what, len(expected)) for what, names in groups.items() if names]


def _listed(names: list[str], what: str, total: int) -> str:
    shown = ", ".join(f"{name:.100}" for name in names[:_SHOWN])
    return f"{len(names)} {what} (of {total}): {shown}" + (", …" if len(names) > _SHOWN else "")


def _foreign_prefix(tensors: Iterable[str], expected: Iterable[str]) -> str | None:
    """Return a prefix that most names have and without which they would match the model's names."""
    known = set(expected)
    prefixes = Counter(
        name[: -len(rest)]
        for name in tensors
        for rest in (name.split(".", dots)[-1] for dots in (1, 2))
        if rest in known and rest != name
    )
    prefix, count = prefixes.most_common(1)[0] if prefixes else ("", 0)
    return prefix if 2 * count > len(known) else None


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"
