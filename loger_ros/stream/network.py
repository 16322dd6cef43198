"""What a stream needs from a network: the interface by which to add another one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from loger_ros.types import Prediction


class Network(Protocol):
    """For example loger_ros.model.loger.LoGeR. A memory is a value: one that was handed out never changes.

    It may have ``carried`` (loger_ros.model.carried.Carried): how the cameras of its training were mounted.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def patch_size(self) -> int:
        """Both sides of an image must be a multiple of this number of pixels."""

    def initial_memory(self) -> Any: ...

    def reset_fast_weights(self, memory: Any) -> Any:
        """Return a memory without what is far back, but still connected with the chunk before."""

    def encode(self, images: Tensor) -> Any:
        """Return features of each image by itself, from (B, N, 3, H, W), float in [0, 1].

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
        """Return what one chunk shows, and the memory after it.

        chunk_size, overlap: as set for the stream, also for a short last chunk.
        outputs: the fields of Prediction that are wanted; None: all.
        update_memory: False returns the old memory.
        fast_weights, sliding_window: False works without that part of the memory.
        """
