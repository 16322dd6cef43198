"""Attention with optional query/key norm, rotary positions and extra keys, on a chosen backend."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.flash import flash_attention
from loger_ros.model.layers import LayerNorm, Linear
from loger_ros.model.rope import RopeTables, rotate


class KeyValues(NamedTuple):
    """Keys (normed and rotated) and values of one attention layer over a whole chunk."""

    keys: Tensor  # (B, heads, L, head_dim)
    values: Tensor  # (B, heads, L, head_dim)


class Attention(nn.Module):
    """``backend`` is "sdpa" (torch) or "flash_attn"; the model's ``set_attention_backend`` chooses it."""

    def __init__(self, dim: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend = "sdpa"
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.q_norm = LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm = LayerNorm(dim // num_heads) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, rope: RopeTables | None) -> Tensor:
        """x (B, frames, S, C): every token of a batch element sees every other of its frames."""
        return self.attend(*self.project(x, rope), shape=x.shape)

    def project(self, x: Tensor, rope: RopeTables | None) -> tuple[Tensor, KeyValues]:
        """Queries, keys and values of x (B, frames, S, C), each (B, heads, frames * S, head_dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, F, S, 3, h, d)
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).unbind(0)  # each (B, h, F, S, d)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return q.flatten(2, 3), KeyValues(k.flatten(2, 3), v.flatten(2, 3))

    def attend(
        self, q: Tensor, own: KeyValues, *, shape: torch.Size, history: KeyValues | None = None
    ) -> Tensor:
        """History, if there is any, comes before the chunk's own keys and values."""
        k, v = own
        if history is not None:
            k, v = torch.cat([history.keys, k], 2), torch.cat([history.values, v], 2)
        attend = flash_attention if self.backend == "flash_attn" else F.scaled_dot_product_attention
        out = attend(q, k, v)  # (B, h, L, d)
        return self.proj(out.transpose(1, 2).reshape(shape))
