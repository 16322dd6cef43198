"""Golden numbers of the published model: a subset ships with the tests, the full set is used where found."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

SHIPPED = Path(__file__).parent / "fixtures" / "loger"
FULL = Path(os.environ.get("LOGER_GOLDEN", Path(__file__).parents[2] / "shared" / "fixtures" / "loger"))


@dataclass(frozen=True)
class Golden:
    """Tensors by name and the file's JSON metadata (config, forward, windows, ...)."""

    tensors: dict[str, torch.Tensor]
    metadata: dict

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}


def golden_path(name: str) -> Path:
    """The full fixture file where there is one, else the shipped subset."""
    full = FULL / f"{name}.safetensors"
    return full if full.exists() else SHIPPED / f"{name}.safetensors"


def golden(name: str, path: Path | None = None) -> Golden:
    """Images are stored as uint8 in the shipped files; they come back as float32 in [0, 1] either way."""
    with safe_open(path or golden_path(name), "pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    for key, value in tensors.items():
        if key.endswith("images") and value.dtype == torch.uint8:
            tensors[key] = value.float() / 255
    parsed = {}
    for key, value in metadata.items():
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return Golden(tensors, parsed)


def error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """max |a - b| / max |b|, the error measure of the fixtures."""
    return float((value.double() - truth.double()).abs().max() / truth.double().abs().max().clamp_min(1e-30))


def rms_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    difference = (value.double() - truth.double()).square().mean().sqrt()
    return float(difference / truth.double().square().mean().sqrt())
