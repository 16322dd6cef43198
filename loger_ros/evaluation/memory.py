"""The peak memory of a run."""

from __future__ import annotations

import resource
import sys

import torch


class Peak:
    """Peak in MB: of this process since it started, and of the GPU since the block started."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.megabytes: dict[str, float] = {}

    def __enter__(self) -> Peak:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *error: object) -> None:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.megabytes["host"] = most / (1e6 if sys.platform == "darwin" else 1e3)
        if self._device.type == "cuda":
            self.megabytes["gpu"] = torch.cuda.max_memory_allocated(self._device) / 1e6
