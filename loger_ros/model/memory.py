"""What the network carries from chunk to chunk: an immutable value."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loger_ros.model.attention import KeyValues
from loger_ros.model.fast_weights import FastWeights

_FORMAT = "loger_ros.memory.1"


class MemoryFileError(ValueError):
    """A file that is not a memory saved by this package."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Empty parts mean "nothing remembered yet": learned initial weights, no previous chunk."""

    fast_weights: tuple[FastWeights, ...] = ()  # one per fast-weight layer
    window: tuple[KeyValues, ...] = ()  # the previous chunk, one per sliding-window layer

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def without_fast_weights(self) -> Memory:
        return replace(self, fast_weights=())

    def clone(self) -> Memory:
        return self._map(Tensor.clone)

    def to(self, device: torch.device | str) -> Memory:
        return self._map(lambda tensor: tensor.to(device))

    def require(
        self, layers: tuple[int, int], dtypes: tuple[torch.dtype, torch.dtype | None], device: torch.device
    ) -> None:
        """Raise ValueError if a model cannot continue from this memory.

        layers: how many fast-weight and sliding-window layers the model has. dtypes: of both, None if
        autocast decides them.
        """
        parts = (("fast weights", self.fast_weights), ("window's keys and values", self.window))
        for (name, groups), count, dtype in zip(parts, layers, dtypes, strict=True):
            if groups and len(groups) != count:
                raise ValueError(
                    f"memory: its {name} cover {len(groups)} layers, but the model has {count}: it "
                    f"belongs to another model. Start with initial_memory()"
                )
            for tensor in itertools.chain(*groups):
                if tensor.device != device:
                    raise ValueError(
                        f"memory: its {name} are on {tensor.device}, but the model is on {device}: move it "
                        f"with memory.to({str(device)!r})"
                    )
                if dtype is not None and tensor.dtype != dtype:
                    raise ValueError(
                        f"memory: its {name} are {tensor.dtype}, but the model's are {dtype}: it belongs to "
                        f"a model of another precision. Start with initial_memory()"
                    )

    def save(self, path: str | Path) -> None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._tensors().items()}
        save_file(tensors, path, {"format": _FORMAT})

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Memory:
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                if (file.metadata() or {}).get("format") != _FORMAT:
                    raise MemoryFileError(f"{path} is not a saved memory: it does not say {_FORMAT!r}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise MemoryFileError(f"{path} cannot be read as a saved memory: {error}") from error
        try:
            return cls(_grouped(FastWeights, "fast_weights", tensors), _grouped(KeyValues, "window", tensors))
        except KeyError as error:
            raise MemoryFileError(f"{path} is incomplete: the tensor {error} is missing") from error

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{part}.{i}.{name}": tensor
            for part in ("fast_weights", "window")
            for i, group in enumerate(getattr(self, part))
            for name, tensor in group._asdict().items()
        }

    def _map(self, function: Callable[[Tensor], Tensor]) -> Memory:
        return Memory(
            tuple(FastWeights(*map(function, group)) for group in self.fast_weights),
            tuple(KeyValues(*map(function, group)) for group in self.window),
        )


def _grouped(kind: type, part: str, tensors: dict[str, Tensor]) -> tuple:
    count = len({name.split(".")[1] for name in tensors if name.startswith(f"{part}.")})
    return tuple(
        kind(*(tensors[f"{part}.{i}.{name}"] for name in kind._fields))  # type: ignore[attr-defined]
        for i in range(count)
    )
