"""What a stream asks of a network: the door that another one comes in by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from loger_ros.types import Prediction


class Network(Protocol):
    """Such as loger_ros.model.loger.LoGeR. A memory is a value: nothing changes one that was given out."""

    @property
    def device(self) -> torch.device: ...

    @property
    def patch_size(self) -> int:
        """Pixels that both sides of an image are a multiple of."""

    def initial_memory(self) -> Any: ...

    def reset_fast_weights(self, memory: Any) -> Any:
        """Without what is far back, but still connected with the chunk before."""

    def encode(self, images: Tensor) -> Any:
        """(B, N, 3, H, W), float in [0, 1] → features of each image by itself.

        They are indexed by (B, N), and ``cat`` of their type joins several along N.
        """

    def step(
        self,
        images_or_features: Any,
        memory: Any,
        chunk_size: int,
        overlap: int,
        *,
        outputs: Collection[str] | None = None,
        update_memory: bool = True,
        update_fast_weights: bool = True,
        fast_weights: bool = True,
        sliding_window: bool = True,
    ) -> tuple[Prediction, Any]:
        """One chunk → what it shows, and the memory after it.

        chunk_size, overlap: as asked of the stream, also for a short last chunk.
        outputs: those of Prediction's that are wanted; None: all.
        update_memory: False gives the old memory back.
        fast_weights, sliding_window: False works without that part of the memory.
        """
