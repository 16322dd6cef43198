"""The transformer block, in the three forms that the network uses."""

from __future__ import annotations

from torch import Tensor, nn

from loger_ros.model.attention import Attention
from loger_ros.model.layers import LayerNorm, LayerScale, Mlp
from loger_ros.model.rope import RopeTables


class Block(nn.Module):
    """``x += scale · attention(norm(x)); x += scale · mlp(norm(x))``."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: int, *, qk_norm: bool, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, rope: RopeTables | None = None) -> Tensor:
        """x (B, frames, S, C): attention runs over all tokens of all frames of a batch element."""
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        return self.feed_forward(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        return x + self.ls2(self.mlp(self.norm2(x)))
