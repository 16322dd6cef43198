"""Small networks with random weights in which every path matters."""

from __future__ import annotations

import dataclasses

import torch

from loger_ros.model import LoGeR, ModelConfig
from loger_ros.model.config import DecoderConfig, EncoderConfig, HeadsConfig

SMALL = ModelConfig(
    patch_size=4,
    encoder=EncoderConfig(img_size=16, dim=16, depth=2, num_heads=2, num_registers=2),
    decoder=DecoderConfig(dim=16, depth=4, num_heads=2, num_registers=2),
    heads=HeadsConfig(dim=16, depth=1, num_heads=2, camera_dim=8),
    ttt_insert_after=(0, 2),
    attn_insert_after=(2,),
    ttt_head_dim=8,
)


def small_model(seed: int = 0, **changes) -> LoGeR:
    """Layer scales and gates far from zero, so that no path hides behind a small factor."""
    torch.manual_seed(seed)
    model = LoGeR(dataclasses.replace(SMALL, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.uniform_(0.5, 1.0)
            elif "gate_projs" in name:
                parameter.normal_(0, 0.5)
    return model.eval()


def small_images(
    frames: int, batch: int = 1, seed: int = 0, size: tuple[int, int] = (12, 16)
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, 3, *size, generator=generator)
