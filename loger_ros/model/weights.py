"""Builds models and loads their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from loger_ros.model.config import PRESETS, ModelConfig
from loger_ros.model.loger import LoGeR


def build_model(config: str | ModelConfig) -> LoGeR:
    """A model with random weights, ready for training; works under ``torch.device("meta")``."""
    return LoGeR(PRESETS[config] if isinstance(config, str) else config)


def load_model(
    name_or_path: str | Path,
    *,
    config: ModelConfig | Mapping[str, Any] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> LoGeR:
    model = build_model(config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config))
    weights = {k: v for k, v in load_file(name_or_path).items() if ".to_qkv_stack." not in k}
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False).to(device)
