"""Muon for the matrices of trunk and heads, AdamW for the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from loger_ros.training.recipe import Recipe, Stage

_MOMENTUM = 0.95
_ROUNDS = 4  # towards orthogonal matrices
_QUINTIC = 3.4445, -4.7750, 2.0315  # by Muon's authors: fast for small singular values, never quite 1
_LIKE_ADAMW = 0.2  # root mean square of a step at rate 1, so that both optimisers take the same rates
_LAST_RATE = 0.02  # at the end of a stage, as a share of the highest
_BY_ADAMW = ("fc_rot", "fc_t", "point_head", "conf_head", "gate_projs", "lr_fc", "flow.")


def make_optimisers(student: nn.Module, recipe: Recipe, stage: Stage) -> list[Optimizer]:
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        matrix = name.endswith(".weight") and parameter.ndim == 2 and not any(n in name for n in _BY_ADAMW)
        (matrices if matrix else others).append(parameter)
    muon = Muon(matrices, lr=stage.muon_rate, weight_decay=recipe.weight_decay)
    adamw = torch.optim.AdamW(
        others, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True
    )
    return [muon, adamw]


def set_rates(optimisers: list[Optimizer], stage: Stage, progress: float) -> float:
    """Set the rates: warm-up, then a cosine; ``progress`` of the stage in 0..1. Return the factor."""
    warm = min(1.0, (progress + 1e-9) / stage.warm_up) if stage.warm_up else 1.0
    factor = warm * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))
    for optimiser, rate in zip(optimisers, (stage.muon_rate, stage.learning_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
    return factor


class Muon(Optimizer):
    """Steps along the momentum of each matrix, with all its singular values brought near to 1.

    torch.optim has had it since 2.9, one matrix at a time; ours are small and many, so those of one shape are
    processed together, in their own precision, in a tenth of the time.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    momentum = self._momentum(matrix).lerp_(matrix.grad, 1 - _MOMENTUM)
                    alike[matrix.shape].append((matrix, matrix.grad.lerp(momentum, _MOMENTUM)))
            for shape, pairs in alike.items():
                steps = nearly_orthogonal(torch.stack([ahead for _, ahead in pairs]))
                steps *= group["lr"] * _LIKE_ADAMW * math.sqrt(max(shape))
                for (matrix, _), step in zip(pairs, steps, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def nearly_orthogonal(matrices: Tensor) -> Tensor:
    """(n, rows, columns) with the same singular vectors and singular values of about 1 (Newton-Schulz)."""
    if matrices.shape[-2] > matrices.shape[-1]:
        return nearly_orthogonal(matrices.mT).mT
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
