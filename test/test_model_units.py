"""Single pieces of the network against the golden numbers: 1e-5 of a tensor's maximum."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden import error, golden, rms_error

from loger_ros.model import ModelConfig, fast_weights
from loger_ros.model.blocks import Block
from loger_ros.model.fast_weights import FastWeightLayer, newton_schulz
from loger_ros.model.heads import CameraHead, PatchHead
from loger_ros.model.loger import place_counts
from loger_ros.model.rope import rope_tables, rotate
from loger_ros.model.rotation import nearest_rotation
from loger_ros.model.sliding_window import SlidingWindowLayer

LIMIT = 1e-5
# Newton-Schulz enlarges rounding: the golden weights after three chunks are 1.5e-5 from a float64 run.
LEARNED_LIMIT = 3e-5
UNITS = golden("units")
WEIGHTS = golden("weights_a")


def loaded(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    tensors = {k: v for k, v in WEIGHTS.under(prefix).items() if "to_qkv_stack" not in k}
    module.load_state_dict(tensors)
    return module.eval().requires_grad_(False)


def tables(positions: torch.Tensor, head_dim: int, dtype=torch.float32):
    return rope_tables(positions, head_dim, 100.0, dtype)


def decoder_block() -> torch.nn.Module:
    return loaded(Block(64, 4, 4, qk_norm=True, layer_scale=0.01), "decoder.0.")


def head_block() -> torch.nn.Module:
    return loaded(Block(48, 3, 4, qk_norm=False, layer_scale=None), "point_decoder.blocks.0.")


def encoder_block() -> torch.nn.Module:
    return loaded(Block(64, 4, 4, qk_norm=False, layer_scale=1.0), "encoder.blocks.0.")


@pytest.mark.parametrize("prefix", ["rope", "rope64"])
def test_rope(prefix):
    x, positions = UNITS[f"{prefix}.x"], UNITS[f"{prefix}.pos"]
    rotated = torch.stack([rotate(u, tables(p, u.shape[-1])) for u, p in zip(x, positions, strict=True)])
    assert error(rotated, UNITS[f"{prefix}.y"]) <= LIMIT


def test_rope_is_rounded_in_half_precision_as_under_autocast_on_a_gpu():
    """There the product of positions and frequencies is one of half numbers, and so is what comes of it."""
    half, columns, head_dim = torch.bfloat16, torch.arange(67), 64  # the widest image of the published size
    frequencies = torch.tensor([100 ** -(i / 16) for i in range(16)]).to(half)
    angles = torch.outer(columns.to(half), frequencies)
    turned = tables(torch.stack([torch.zeros_like(columns), columns], -1), head_dim, half)
    assert torch.equal(turned.cos[:, 32:48], angles.cos())
    assert torch.equal(turned.sin[:, 48:], angles.sin())
    exact = columns[:, None] * torch.tensor([100 ** -(i / 16) for i in range(16)])
    assert (angles.float() - exact).abs().max() > 0.1  # so it matters


@pytest.mark.parametrize("name", ["wide", "tall", "square", "big"])
def test_newton_schulz(name):
    if f"ns.{name}.g" not in UNITS.tensors:
        pytest.skip("not in the shipped subset")
    g = UNITS[f"ns.{name}.g"]
    limit = 1e-4 if name == "wide" else LIMIT  # one of the wide ones has rank 3
    assert error(newton_schulz(g, 5), UNITS[f"ns.{name}.out_fp32"]) <= limit
    if name != "wide":
        half = newton_schulz(g, 5, torch.bfloat16).float()
        assert rms_error(half, UNITS[f"ns.{name}.out_bf16"]) <= 0.08


VARIANTS = {
    "base": {},
    "prenorm": {"pre_norm": True},
    "inter3": {"expansion": 3},
    "steps2": {"update_steps": 2},
    "momentum_steps2": {"update_steps": 2, "momentum": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("kind", "limit"), [("fp32", LIMIT), ("bf16", 0.1)])
def test_fast_weight_layer(variant, kind, limit):
    numbers = UNITS.under(f"ttt.{variant}.")
    if not numbers:
        pytest.skip("not in the shipped subset")
    parameters = {k.removeprefix("param."): v for k, v in numbers.items() if k.startswith("param.")}
    parameters = {k: v for k, v in parameters.items() if "to_qkv_stack" not in k}
    _, head_dim, inner = parameters["w0"].shape
    options = {"expansion": inner // head_dim} | VARIANTS[variant]
    dtype = "float32" if kind == "fp32" else "bfloat16"
    layer = FastWeightLayer(64, head_dim, newton_schulz_dtype=dtype, **options)
    layer.load_state_dict(parameters)
    layer.requires_grad_(False)
    weights = None
    for c in range(3):
        y, weights = layer(numbers[f"x{c}"], weights)
        results = {f"y{c}": y} | {f"{name}_after{c}": w for name, w in weights._asdict().items()}
        for name, value in results.items():
            golden, exact = numbers[f"{name}_{kind}"], numbers[f"{name}_fp32"]
            if kind == "fp32":
                assert error(value, golden.view_as(value)) <= (limit if name == f"y{c}" else LEARNED_LIMIT)
            else:  # processors round bfloat16 products differently, and every update adds to that
                rounding = rms_error(golden, exact)
                assert rms_error(value, golden.view_as(value)) <= max(limit, 1.5 * rounding)


@pytest.mark.parametrize("at_once", [1, 70 * 2 * 128])
def test_fast_weights_in_parts_are_those_of_the_whole(at_once, monkeypatch):
    torch.manual_seed(0)
    layer = FastWeightLayer(64, 32, 8, update_steps=2, momentum=True).double().requires_grad_(False)
    x = torch.randn(1, 5, 14, 64, dtype=torch.float64)
    whole, weights = layer(x, None)
    monkeypatch.setattr(fast_weights, "_AT_ONCE", at_once)
    assert fast_weights._share(256, 2 * 70) == (64 if at_once == 1 else 128)
    assert fast_weights._share(70, 2 * 256) == 64
    parts, in_parts = layer(x, None)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    for one, other in zip(in_parts, weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", ["2e-3", "2e-4"])
def test_fast_weight_layer_norms_small_inputs(scale):
    numbers = UNITS.under(f"eps.ttt_{scale}.")
    if not numbers:
        pytest.skip("not in the shipped subset")
    parameters = {k.removeprefix("param."): v for k, v in UNITS.under("ttt.prenorm.").items()}
    parameters = {
        k: v for k, v in parameters.items() if k in FastWeightLayer(64, 32, 2, pre_norm=True).state_dict()
    }
    layer = FastWeightLayer(64, 32, 2, pre_norm=True)
    layer.load_state_dict(parameters)
    layer.requires_grad_(False)
    y, weights = layer(numbers["x"], None)
    assert error(y, numbers["y"].view_as(y)) <= LIMIT
    for name, value in weights._asdict().items():
        assert error(value, numbers[f"{name}_after"]) <= LIMIT


def test_sliding_window():
    numbers = UNITS.under("swa.")
    layer = loaded(SlidingWindowLayer(64, 4, 2), "swa_layers.0.")
    specials_and_patches = numbers["pos"].shape[-2] // 3
    rope = tables(numbers["pos"].view(-1, 2)[:specials_and_patches], 16)
    shape = (1, 3, specials_and_patches, 64)
    y0, cache = layer(numbers["x0"].view(shape), rope, None)
    y1, _ = layer(numbers["x1"].view(shape), rope, cache)
    assert error(cache.keys, numbers["k0"]) <= LIMIT
    assert error(cache.values, numbers["v0"]) <= LIMIT
    assert error(y0.flatten(1, 2), numbers["y0"]) <= LIMIT
    assert error(y1.flatten(1, 2), numbers["y1_with_cache"]) <= LIMIT


@pytest.mark.parametrize("prefix", ["", "eps."])
@pytest.mark.parametrize(
    ("name", "make", "head_dim"),
    [("block", decoder_block, 16), ("head_block", head_block, 16), ("enc_block", encoder_block, 0)],
)
def test_blocks(prefix, name, make, head_dim):
    numbers = UNITS.under(f"{prefix}{name}.")
    x = numbers["x"]
    rope = tables(UNITS["block.pos"].view(-1, 2)[: x.shape[1]], head_dim) if head_dim else None
    assert error(make()(x[:, None], rope)[:, 0], numbers["y"]) <= LIMIT


def test_query_norm_epsilon():
    block = decoder_block()
    with torch.no_grad():
        for tensor in (block.attn.qkv.weight, block.attn.qkv.bias):
            tensor.mul_(2e-3)
            tensor[128:].mul_(500)
    x = UNITS["eps.qk.x"]
    rope = tables(UNITS["block.pos"].view(-1, 2)[: x.shape[1]], 16)
    assert error(block(x[:, None], rope)[:, 0], UNITS["eps.qk.y"]) <= LIMIT


def test_encoder_norm_epsilon():
    from loger_ros.model.layers import LayerNorm

    norm = loaded(LayerNorm(64, eps=1e-6), "encoder.norm.")
    assert error(norm(UNITS["eps.enc_norm.x"]), UNITS["eps.enc_norm.y"]) <= LIMIT


def test_camera_head():
    head = loaded(CameraHead(32), "camera_head.")
    assert error(head(UNITS["camera_head.feat"]), UNITS["camera_head.pose"]) <= LIMIT


def test_point_head_layout():
    head = loaded(PatchHead(48, 14, 3), "point_head.")
    assert error(head(UNITS["point_head.tokens"], 3, 4), UNITS["point_head.map"]) <= LIMIT


def test_nearest_rotation():
    rows = F.normalize(UNITS["orth.m"], dim=-1)
    assert error(nearest_rotation(rows), UNITS["orth.r"]) <= LIMIT


def test_place_tokens():
    rows = UNITS.metadata["pe_token_table"]
    sized = [row for row in rows if row["window"] > row["overlap"]]
    for row in sized:
        counts = place_counts(row["frames_in_window"], row["window"], row["overlap"])
        assert list(counts) == row["counts"], row
    assert len(sized) > 5


@pytest.mark.parametrize(("frames", "chunk_size", "overlap"), [(6, 5, 2), (0, 5, 2), (2, 5, 5), (2, -1, 1)])
def test_place_tokens_refuse_what_loses_frames(frames, chunk_size, overlap):
    with pytest.raises(ValueError, match=r"overlap|chunk_size"):
        place_counts(frames, chunk_size, overlap)


def test_fixture_config_is_ours():
    assert ModelConfig.from_dict(UNITS.metadata["config"]).heads.camera_dim == 32
