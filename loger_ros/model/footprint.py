"""How much memory a stream of chunks takes, counted on meta tensors: no GPU is needed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from loger_ros.model.config import ModelConfig
from loger_ros.model.encoder import Features
from loger_ros.model.loger import LoGeR
from loger_ros.model.weights import held_dtype, meta_model


class Footprint(NamedTuple):
    """In bytes. What CUDA and torch's allocator keep for themselves comes on top, as does the map."""

    weights: int
    beside: int  # peak of everything else: memory, images and intermediate results


def footprint(
    config: ModelConfig,
    dtype: torch.dtype,
    size: tuple[int, int],
    frames: int,
    overlap: int,
    encode_batch: int = 1,
) -> Footprint:
    """Return the footprint of ``frames`` images of ``size`` (height, width), a chunk that follows another.

    Attention is fused.
    """
    model = meta_model(config).eval()
    products = model.product_weights()
    for name, parameter in model.named_parameters():
        kind = held_dtype(name, products, dtype)
        parameter.data = torch.empty(parameter.shape, dtype=kind, device="meta")
    held = [*model.parameters(), *model.buffers()]
    with _FusedAttention(), Living(held) as living:
        two_chunks(model, size, frames, overlap, encode_batch)
    return Footprint(sum(tensor.nbytes for tensor in held), living.most)


@torch.no_grad()
def two_chunks(model: LoGeR, size: tuple[int, int], frames: int, overlap: int, encode_batch: int = 1) -> None:
    """Run two chunks as a stream does; the second one has a memory."""
    memory = model.initial_memory()
    features: list[Features] = []  # one per frame
    for _ in range(2):
        features = features[frames - overlap :]
        while len(features) < frames:
            count = min(encode_batch, frames - len(features))
            encoded = model.encode(torch.zeros(1, count, 3, *size, device=model.device))
            features += [encoded[:, i : i + 1] for i in range(count)]
        _, memory = model.step(Features.cat(features), memory, frames, overlap)


class Living(TorchDispatchMode):
    """Counts the bytes that operations allocated and that are still in use: now, and the peak."""

    def __init__(self, known: list[Tensor] | tuple[Tensor, ...] = ()) -> None:
        super().__init__()
        self.now = self.most = 0
        self._met: WeakIdKeyDictionary = WeakIdKeyDictionary()
        for tensor in known:
            self._met[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._met:
                self._met[storage] = True
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, count: int) -> None:
        self.now -= count


class _FusedAttention(TorchFunctionMode):
    """Attention as on a GPU, where the products of all queries and keys are never held at once."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))
