"""Muon for the matrices of trunk and heads, AdamW for the rest."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from loger_ros.training.recipe import Recipe, Stage

_LAST_RATE = 0.02  # of the highest, at the end of a stage
_BY_ADAMW = ("fc_rot", "fc_t", "point_head", "conf_head", "gate_projs", "lr_fc", "flow.")


def make_optimisers(student: nn.Module, recipe: Recipe, stage: Stage) -> list[Optimizer]:
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(
            f"training needs the Muon optimiser of torch 2.9 or newer, this is {torch.__version__}: "
            "update torch (running a trained model does not need it)"
        )
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        matrix = name.endswith(".weight") and parameter.ndim == 2 and not any(n in name for n in _BY_ADAMW)
        (matrices if matrix else others).append(parameter)
    muon = torch.optim.Muon(
        matrices,
        lr=stage.muon_rate,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
        ns_steps=4,
    )
    adamw = torch.optim.AdamW(
        others, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True
    )
    return [muon, adamw]


def set_rates(optimisers: list[Optimizer], stage: Stage, progress: float) -> float:
    """Warm-up, then a cosine; ``progress`` of the stage in 0..1. Returns the factor."""
    warm = min(1.0, (progress + 1e-9) / stage.warm_up) if stage.warm_up else 1.0
    factor = warm * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))
    for optimiser, rate in zip(optimisers, (stage.muon_rate, stage.learning_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
    return factor
