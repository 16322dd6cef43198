"""Names and shapes of the full-size models, without memory, against tables of the published checkpoints."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from loger_ros.model import PRESETS, build_model
from loger_ros.model.fit import matching_preset, meta_model, misfit

TABLES = Path(__file__).parent / "fixtures" / "loger"
DEAD = ".to_qkv_stack."
TITLES = {"loger": "LoGeR", "loger_star": "LoGeR*"}


def table(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def published(preset: str) -> dict[str, str]:
    rows = table("state_dict.tsv")
    return {row["tensor"]: row["shape"] for row in rows if row["configs"] in ("both", TITLES[preset])}


def shapes(model: torch.nn.Module) -> dict[str, str]:
    return {name: "x".join(map(str, tensor.shape)) for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def models():
    with torch.device("meta"):
        return {name: build_model(name) for name in PRESETS}


@pytest.mark.parametrize("preset", PRESETS)
def test_state_dict_is_the_published_one(models, preset):
    expected = {name: shape for name, shape in published(preset).items() if DEAD not in name}
    assert shapes(models[preset]) == expected


@pytest.mark.parametrize(
    ("preset", "parameters", "tensors"), [("loger", 1_254_621_598, 1509), ("loger_star", 1_254_603_166, 1491)]
)
def test_parameter_counts_are_the_published_ones(models, preset, parameters, tensors):
    dead = [
        math.prod(map(int, shape.split("x"))) for name, shape in published(preset).items() if DEAD in name
    ]
    model = models[preset]
    assert sum(dead) == 56_623_104
    assert sum(parameter.numel() for parameter in model.parameters()) + sum(dead) == parameters
    assert len(model.state_dict()) + len(dead) == tensors


def test_parts_have_the_published_sizes(models):
    sizes = {
        "encoder": 304_371_712,
        "decoder": 453_547_008,
        "ttt_layers": 245_505_132 - 56_623_104,
        "swa_layers": 50_394_112,
        "point_decoder": 66_128_896,
        "conf_decoder": 66_128_896,
        "camera_decoder": 65_604_096,
        "camera_head": 2_107_404,
        "point_head": 602_700,
        "conf_head": 200_900,
        "ttt_gate_projs": 18_450,
        "swa_gate_projs": 4_100,
    }
    model = models["loger"]
    assert {part: sum(p.numel() for p in model.get_submodule(part).parameters()) for part in sizes} == sizes


@pytest.mark.parametrize("metric", [False, True])
def test_pi3x_adds_the_published_tensors(models, metric):
    config = dataclasses.replace(PRESETS["loger"], pi3x=True, pi3x_metric=metric)
    wanted = ("pi3x", "pi3x+pi3x_metric") if metric else ("pi3x",)
    extra = {row["tensor"]: row["shape"] for row in table("state_dict_pi3x.tsv") if row["needs"] in wanted}
    linear_head = {"point_head.proj.weight", "point_head.proj.bias"}
    base = {name: shape for name, shape in shapes(models["loger"]).items() if name not in linear_head}
    assert shapes(meta_model(config)) == base | extra


def test_nothing_of_the_network_is_missing_from_its_state_dict(models):
    """Else a model built without memory and filled from a file would keep holes."""
    model = models["loger"]
    everything = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    assert everything == set(model.state_dict())


def test_each_published_model_is_recognised_and_the_other_is_refused_by_name(models):
    for name, model in models.items():
        assert matching_preset(model.state_dict()) == name
    problem = misfit(models["loger_star"].state_dict(), models["loger"], "LoGeR")
    assert "18 missing (of 1491): ttt_layers.0.pre_norm.weight" in problem
    assert "looks like LoGeR*: load it as 'loger_star'" in problem
    problem = misfit(models["loger"].state_dict(), models["loger_star"], "LoGeR*")
    assert "18 unexpected" in problem
    assert "looks like LoGeR: load it as 'loger'" in problem
