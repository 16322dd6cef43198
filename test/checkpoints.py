"""Checkpoint files of small networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from networks import small_model

from loger_ros.model.checkpoint import save_checkpoint


def small_checkpoint(path: Path, carried: dict | None = None, **stream) -> Path:
    """A file that load_model takes; ``stream``: the settings that it recommends."""
    model = small_model()
    tensors: dict[str, torch.Tensor] = model.state_dict()
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    save_checkpoint(path, shapes, _plain(model.config), tensors.__getitem__, stream or None, carried)
    return path


def _plain(config) -> dict:
    return config.to_dict() if hasattr(config, "to_dict") else dataclasses.asdict(config)
