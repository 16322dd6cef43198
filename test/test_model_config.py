"""Every published configuration is accepted as it stands; a wrong one is refused with its field's name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import yaml
from golden import golden
from networks import SMALL

from loger_ros.model import PRESETS, ConfigError, ModelConfig, build_model
from loger_ros.model.config import DecoderConfig, EncoderConfig, HeadsConfig, Pi3xConfig

PUBLISHED_YAML = """
model:
  ttt_insert_after: "[0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34]"
  attn_insert_after: [10, 18, 26, 34]
  ttt_head_dim: 512
  ttt_inter_multi: 4
  num_muon_update_steps: 5
"""


def test_published_yaml_gives_the_presets():
    section = yaml.safe_load(PUBLISHED_YAML)
    assert ModelConfig.from_dict(section | {"se3": True}) == PRESETS["loger_star"]
    section["model"] |= {"ttt_pre_norm": True}
    assert ModelConfig.from_dict(section) == PRESETS["loger"]


@pytest.mark.parametrize("name", ["weights_a", "weights_b", "pi3x_metric_fp32ns", "units"])
def test_fixture_configs(name):
    written = golden(name).metadata["config"]
    config = ModelConfig.from_dict(written)
    assert dataclasses.asdict(config.encoder) | written["encoder"] == dataclasses.asdict(config.encoder)
    assert config.pi3x == written.get("pi3x", False)


def test_an_absent_window_is_a_copy_of_the_fast_weights_and_none_is_none():
    for absent in ({}, {"attn_insert_after": []}, {"attn_insert_after": None}):
        assert ModelConfig.from_dict({"ttt_insert_after": 4} | absent).attn_insert_after == (4,)
    written = {"ttt_insert_after": 4, "attn_insert_after": "none"}
    assert ModelConfig.from_dict(written).attn_insert_after == ()


@pytest.mark.parametrize(
    "config", [*PRESETS.values(), SMALL, dataclasses.replace(SMALL, attn_insert_after=())]
)
def test_round_trip_through_json(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"decoder": {"dim": 1030}}, "decoder.dim"),
        ({"decoder": {"dim": 512}}, "decoder.dim"),
        ({"decoder": {"depth": 35}}, "decoder.depth"),
        ({"decoder": {"depth": "many"}}, "decoder.depth"),
        ({"decoder": {"depth": True}}, "decoder.depth"),
        ({"decoder": 3}, "decoder"),
        ({"encoder": {"img_size": 500}}, "encoder.img_size"),
        ({"encoder": {"dim": 0}}, "encoder.dim"),
        ({"encoder": {"size": 3}}, "encoder.size"),
        ({"ttt_insert_after": [36]}, "ttt_insert_after"),
        ({"ttt_insert_after": [2, 2]}, "ttt_insert_after"),
        ({"ttt_insert_after": "[0, "}, "ttt_insert_after"),
        ({"ttt_insert_after": [0.5]}, "ttt_insert_after"),
        ({"attn_insert_after": [-1]}, "attn_insert_after"),
        ({"ttt_insert_after": [0], "ttt_head_dim": 600}, "ttt_head_dim"),
        ({"ttt_insert_after": "-" * 3000 + "1"}, "ttt_insert_after"),
        ({"ttt_insert_after": "[" * 50_000}, "ttt_insert_after"),
        ({"ttt_insert_after": "9" * 5000}, "ttt_insert_after"),
        ({"model": None}, "model"),
        ({"model": "ab"}, "model"),
        ({"pos_type": "sine"}, "pos_type"),
        ({"pos_type": "rope²"}, "pos_type"),
        ({"pos_type": "rope" + "9" * 400}, "pos_type"),
        ({"decoder_size": "base"}, "decoder_size"),
        ({"newton_schulz": "int8"}, "newton_schulz"),
        ({"pi3x": True, "pi3x_dims": {"upsample": [30]}}, "pi3x_dims.upsample"),
        ({"pi3x": True, "pi3x_dims": {"metric_heads": 7}}, "pi3x_dims.metric_dim"),
        ({"no_such_key": 1}, "no_such_key"),
    ],
)
def test_refusals_name_the_field(values, field):
    with pytest.raises(ConfigError, match=rf"^{field.replace('.', '[.]')}: "):
        ModelConfig.from_dict(values)


def test_presets_are_built_on_the_meta_device_without_memory():
    with torch.device("meta"):
        model = build_model("loger")
    assert model.config is PRESETS["loger"]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_sections_are_values():
    assert (EncoderConfig(), DecoderConfig(), HeadsConfig(), Pi3xConfig()) == (
        ModelConfig().encoder,
        ModelConfig().decoder,
        ModelConfig().heads,
        ModelConfig().pi3x_dims,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().patch_size = 3  # type: ignore[misc]
