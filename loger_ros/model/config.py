"""Sizes and switches of the network. Field names are those of the published configuration files."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loger_ros.config import ConfigError

_MAX_FREQUENCY = 1e9  # its powers are computed in float32


@dataclass(frozen=True)
class EncoderConfig:
    img_size: int = 518  # side of the position grid in pixels
    dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: int = 4
    num_registers: int = 4


@dataclass(frozen=True)
class DecoderConfig:
    dim: int = 1024
    depth: int = 36
    num_heads: int = 16
    mlp_ratio: int = 4
    num_registers: int = 5


@dataclass(frozen=True)
class HeadsConfig:
    dim: int = 1024
    depth: int = 5
    num_heads: int = 16
    mlp_ratio: int = 4
    camera_dim: int = 512


@dataclass(frozen=True)
class Pi3xConfig:
    upsample: tuple[int, ...] = (256, 128, 64)
    metric_dim: int = 512
    metric_heads: int = 8  # the metric decoder is as deep as the head decoders


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shapes and the arithmetic of a LoGeR network."""

    patch_size: int = 14
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    pos_type: str = "rope100"
    ttt_insert_after: tuple[int, ...] = ()  # decoder blocks followed by a fast-weight layer
    attn_insert_after: tuple[int, ...] = ()  # decoder blocks followed by a sliding-window layer
    ttt_head_dim: int = 512
    ttt_inter_multi: int = 2
    ttt_pre_norm: bool = False
    ttt_update_steps: int = 1
    num_muon_update_steps: int = 5
    use_momentum: bool = False
    conf: bool = True
    pi3x: bool = False
    pi3x_metric: bool = True
    pi3x_dims: Pi3xConfig = field(default_factory=Pi3xConfig)
    newton_schulz: str = "float32"  # or "bfloat16", as the published code computes without autocast

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def rope_frequency(self) -> float:
        return float(self.pos_type.removeprefix("rope"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Accepts the output of ``to_dict``, the published YAML (with or without its ``model`` section) and
        the same with explicit sizes. As in the published code, an absent or empty ``attn_insert_after``
        becomes a copy of ``ttt_insert_after``; write ``"none"`` for a network without sliding window.
        """
        section = values.get("model", values)
        if not isinstance(section, Mapping):
            raise ConfigError(f"model: expected a section, got {section!r:.80}")
        values = dict(section)
        values.pop("se3", None)  # a run-time option that the published files keep in this section
        size = values.pop("decoder_size", "large")
        if size != "large":
            raise ConfigError(f"decoder_size: only 'large' is as wide as the encoder, got {size!r}")
        values["ttt_insert_after"] = _block_indices(values.get("ttt_insert_after"), "ttt_insert_after")
        window = values.get("attn_insert_after")
        values["attn_insert_after"] = (
            ()
            if window == "none"
            else _block_indices(window, "attn_insert_after") or values["ttt_insert_after"]
        )
        return typing.cast(ModelConfig, _from_mapping(cls, values, ""))

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["attn_insert_after"] = self.attn_insert_after or "none"
        return values


def _block_indices(value: Any, name: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, str):  # the published files allow "[0,2]"
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ConfigError(f"{name}: expected block indices, got {value!r:.80}") from None
    indices = [value] if isinstance(value, int) else value
    if not isinstance(indices, (list, tuple)) or not all(isinstance(i, int) for i in indices):
        raise ConfigError(f"{name}: expected a list of block indices, got {value!r:.80}")
    return tuple(indices)


def _from_mapping(cls: type, values: Mapping[str, Any], path: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{path}{name}: unknown field; known fields: {', '.join(known)}")
        arguments[name] = _checked(hints[name], value, f"{path}{name}")
    return cls(**arguments)


def _checked(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: expected a section, got {value!r}")
        return _from_mapping(typing.cast(type, hint), value, f"{name}.")
    if isinstance(hint, types.GenericAlias):  # tuple[int, ...]
        if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
            raise ConfigError(f"{name}: expected a list of integers, got {value!r}")
        return tuple(value)
    if type(value) is not hint:
        raise ConfigError(f"{name}: expected {hint.__name__}, got {value!r}")
    return value


def _validate(config: ModelConfig) -> None:
    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(message)

    for section in ("", "encoder", "decoder", "heads", "pi3x_dims"):
        owner = getattr(config, section) if section else config
        for f in dataclasses.fields(owner):
            value = getattr(owner, f.name)
            zero_allowed = f.name in ("num_registers", "num_muon_update_steps")
            if type(value) is int:
                lowest = 0 if zero_allowed else 1
                name = f"{section}.{f.name}" if section else f.name
                require(lowest <= value <= 2**16, f"{name}: must be between {lowest} and 65536, got {value}")

    encoder, decoder, heads = config.encoder, config.decoder, config.heads
    for name, part, rope in (("encoder", encoder, 1), ("decoder", decoder, 4), ("heads", heads, 4)):
        require(
            part.dim % (part.num_heads * rope) == 0,
            f"{name}.dim: {part.dim} must be divisible by {part.num_heads} heads"
            + (f" times {rope} (rotary positions)" if rope > 1 else ""),
        )
    require(
        encoder.img_size % config.patch_size == 0,
        f"encoder.img_size: {encoder.img_size} must be a multiple of patch_size {config.patch_size}",
    )
    require(
        encoder.dim == decoder.dim,
        f"decoder.dim: {decoder.dim} must equal encoder.dim {encoder.dim}; no layer projects between them",
    )
    require(
        decoder.depth >= 2 and decoder.depth % 2 == 0,
        f"decoder.depth: must be even, since frame and global blocks come in pairs, got {decoder.depth}",
    )
    for name in ("ttt_insert_after", "attn_insert_after"):
        indices = getattr(config, name)
        require(
            all(0 <= i < decoder.depth for i in indices) and len(set(indices)) == len(indices),
            f"{name}: {list(indices)} must be different block indices below decoder.depth {decoder.depth}",
        )
    if config.ttt_insert_after:
        require(
            decoder.dim % config.ttt_head_dim == 0,
            f"ttt_head_dim: {config.ttt_head_dim} must divide decoder.dim {decoder.dim}",
        )
    frequency = re.fullmatch(r"rope([0-9]+\.?[0-9]*)", config.pos_type)
    require(
        frequency is not None and 0 < float(frequency[1]) <= _MAX_FREQUENCY,
        f"pos_type: expected 'rope' and a base frequency up to {_MAX_FREQUENCY:.0e} such as 'rope100', "
        f"got {config.pos_type!r:.80}",
    )
    require(
        config.newton_schulz in ("float32", "bfloat16"),
        f"newton_schulz: expected 'float32' or 'bfloat16', got {config.newton_schulz!r}",
    )
    if config.pi3x:
        metric = config.pi3x_dims
        require(
            metric.metric_dim % (metric.metric_heads * 4) == 0,
            f"pi3x_dims.metric_dim: {metric.metric_dim} must be divisible by 4 times metric_heads",
        )
        require(
            1 <= len(metric.upsample) <= 8 and all(0 < c <= 2**16 and c % 16 == 0 for c in metric.upsample),
            f"pi3x_dims.upsample: expected 1 to 8 multiples of 16, got {list(metric.upsample)}",
        )


_OFFICIAL = ModelConfig(
    ttt_insert_after=tuple(range(0, 36, 2)),
    attn_insert_after=(10, 18, 26, 34),
    ttt_inter_multi=4,
)
PRESETS = {
    "loger": dataclasses.replace(_OFFICIAL, ttt_pre_norm=True),
    "loger_star": _OFFICIAL,
}
