"""The model of the node: loaded as the settings say, and measured while it works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from loger_ros.model import load_model
from loger_ros.ros.config import NetworkConfig

LOOKED_AT = 0.5  # s between reads of the gates


@dataclass
class Work:
    """The time that the network has taken so far."""

    calls: int = 0
    clock: float = 0.0  # s
    processor: float = 0.0  # s, of the thread that called


class WatchedModel:
    """The model, which also measures the time of ``encode`` and ``step`` and the size of its gates."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.work = Work()
        self._gates: dict[str, Tensor] = {}  # the newest output of each kind
        # How much the newest chunk took from each memory: mean magnitude of the gates of the last layer.
        self.gate_means: dict[str, float] = {}
        self._looked = float("-inf")  # monotonic
        for kind, gates in (("fast_weights", "ttt_gate_projs"), ("sliding_window", "swa_gate_projs")):
            for layer in getattr(model, gates, ()):
                layer.register_forward_hook(self._remember(kind))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, *arguments: Any, **options: Any) -> Any:
        return self._timed(self._model.encode, arguments, options)

    def step(self, *arguments: Any, **options: Any) -> Any:
        answer = self._timed(self._model.step, arguments, options)
        # Read here: reading from a GPU waits for it, and the thread of the diagnostics must never wait.
        if time.monotonic() - self._looked > LOOKED_AT:
            self.gate_means = {kind: float(silu(gates).abs().mean()) for kind, gates in self._gates.items()}
            self._looked = time.monotonic()
        return answer

    def _timed(self, function: Any, arguments: Any, options: Any) -> Any:
        clock, processor = time.perf_counter(), time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            self.work.calls += 1
            self.work.clock += time.perf_counter() - clock
            self.work.processor += time.thread_time() - processor

    def _remember(self, kind: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            self._gates[kind] = output.detach()

        return hook


def load_network(settings: NetworkConfig) -> WatchedModel:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return WatchedModel(
        load_model(
            settings.checkpoint,
            config=settings.config or None,
            device=settings.device,
            dtype=settings.dtype,
            attention=settings.attention,
        )
    )
