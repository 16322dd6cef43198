"""Initial weights from which a small network finds motion: a default initialisation stays at "no motion"."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from loger_ros.model import LoGeR
from loger_ros.model.blocks import Block
from loger_ros.model.fast_weights import FastWeightLayer
from loger_ros.model.heads import PatchHead
from loger_ros.model.layers import LayerNorm, LayerScale, Linear

_QUERY_GAIN = 1.5  # sharper attention between frames from the start
_WHITENING = 0.75  # patch filters are divided by their response to this power


@torch.no_grad()
def initialise(model: LoGeR, images: Tensor, generator: torch.Generator) -> None:
    """images (K, 3, H, W) in [0, 1]: what the patch filters are matched to."""
    for module in model.modules():
        if isinstance(module, Linear):
            std = min(0.05, module.in_features**-0.5)
            nn.init.trunc_normal_(module.weight, std=std, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, LayerScale):
            module.gamma.fill_(1.0)
    points = cast(PatchHead, model.point_head)
    for output in (model.camera_head.fc_rot, model.camera_head.fc_t, points.proj):
        nn.init.trunc_normal_(output.weight, std=0.01, generator=generator)
    model.camera_head.fc_rot.bias.copy_(torch.eye(3).flatten())
    for place in range(3):
        nn.init.normal_(getattr(model, f"pe_token_{place}"), std=0.2, generator=generator)
    for block in cast("list[Block]", model.decoder[1::2]):  # between frames
        dim = block.attn.qkv.in_features
        block.attn.qkv.weight[dim : 2 * dim] = block.attn.qkv.weight[:dim]  # like attends to like
        for norm in (block.attn.q_norm, block.attn.k_norm):
            cast(LayerNorm, norm).weight.fill_(_QUERY_GAIN)
    for gates in (model.swa_gate_projs, model.ttt_gate_projs):
        _open(gates, 0.0)  # a memory that was never trained has no effect
    encoder = model.encoder
    encoder.pos_embed[:, 1:] = 0.5 * _wave_table(encoder.grid, encoder.pos_embed.shape[-1])
    encoder.pos_embed[:, :1] = 0
    _match_patch_filters(model, images, generator)


@torch.no_grad()
def open_memory(model: LoGeR, *, window: bool, fast_weights: bool, gate: float) -> None:
    """Open the gates of a memory before its first use, so that it can be learnt at all.

    The window gets the weights of the block after it. Fast weights have no effect yet, at wide-open gates.
    """
    if window and _shut(model.swa_gate_projs):
        for layer, index in zip(model.swa_layers, model.config.attn_insert_after, strict=True):
            source = model.decoder[index + 1 - index % 2]  # the next block between frames, or itself
            own = layer.state_dict()
            fitting = {k: v for k, v in source.state_dict().items() if own[k].shape == v.shape}
            layer.load_state_dict(fitting, strict=False)
        _open(model.swa_gate_projs, gate)
    if fast_weights and _shut(model.ttt_gate_projs):
        for layer in cast("list[FastWeightLayer]", model.ttt_layers):
            layer.c_proj.weight.zero_()
        _open(model.ttt_gate_projs, 1.0)


@torch.no_grad()
def shut_memory(model: LoGeR, *, window: bool, fast_weights: bool) -> None:
    """Shut what is not trained along with the rest: it has no effect until it is opened again."""
    if window:
        _open(model.swa_gate_projs, 0.0)
    if fast_weights:
        _open(model.ttt_gate_projs, 0.0)


def _shut(gates: nn.ModuleList) -> bool:
    return not any(bool(parameter.any()) for parameter in gates.parameters())


def _open(gates: nn.ModuleList, bias: float) -> None:
    for gate in cast("list[Linear]", gates):
        gate.weight.zero_()
        gate.bias.fill_(bias)


def _wave_table(grid: int, dim: int) -> Tensor:
    """(grid * grid, dim) sines and cosines of the column, then of the row."""
    quarter = dim // 4
    frequencies = math.pi / 2 * 10000.0 ** (-torch.arange(quarter) / quarter)
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (x, y)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], -1)
    return torch.nn.functional.pad(table, (0, dim - table.shape[-1]))


def _match_patch_filters(model: LoGeR, images: Tensor, generator: torch.Generator) -> None:
    """Cosine patterns in three opponent colours, the strongest in ``images`` first, partly whitened."""
    projection = model.encoder.patch_embed.proj
    patch, dim = model.config.patch_size, projection.out_channels
    positions = torch.arange(patch) + 0.5
    cosines = torch.cos(math.pi / patch * torch.arange(patch)[:, None] * positions)  # (patch, patch)
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    patterns = torch.einsum("ci,ky,lx->ckliyx", colours, cosines, cosines).flatten(3).flatten(0, 2)
    normalised = (images.cpu() - model.image_mean.cpu()) / model.image_std.cpu()
    patches = torch.nn.functional.unfold(normalised, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    responses = patches @ patterns.T  # (patches, 3 * patch²)
    strongest = responses.std(0).argsort(descending=True)[:dim]
    filters = torch.randn(dim, patterns.shape[1], generator=generator) * 0.02
    filters[: len(strongest)] = patterns[strongest] / responses.std(0)[strongest, None] ** _WHITENING
    out = patches @ filters.T
    filters, mean = filters / out.std(), out.mean(0) / out.std()
    projection.weight.copy_(filters.view_as(projection.weight))
    cast(Tensor, projection.bias).copy_(-mean)
