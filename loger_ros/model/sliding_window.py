"""Sliding-window attention: lossless memory of the previous chunk."""

from __future__ import annotations

from torch import Tensor

from loger_ros.model.attention import KeyValues
from loger_ros.model.blocks import Block
from loger_ros.model.rope import RopeTables


class SlidingWindowLayer(Block):
    """A decoder block whose keys and values are those of the previous chunk and its own, in that order."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__(dim, num_heads, mlp_ratio, qk_norm=True, layer_scale=0.01)

    def forward(  # type: ignore[override]
        self, x: Tensor, rope: RopeTables, history: KeyValues | None, update: bool = True
    ) -> tuple[Tensor, KeyValues | None]:
        """Return the block's output for x (B, N, S, C) and the keys and values that the next chunk will see.

        Without ``update`` the given keys and values are returned unchanged.
        """
        q, own = self.attn.project(self.norm1(x), rope)
        x = x + self.ls1(self.attn.attend(q, own, shape=x.shape, history=history))
        if update:  # a view of the values would keep the projection alive, which is three times as large
            history = KeyValues(own.keys, own.values.contiguous())
        del q, own
        return self.feed_forward(x), history
