"""Two-dimensional rotary positions: half of each head is rotated by the row, half by the column."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RopeTables(NamedTuple):
    """Rotation per token; broadcasts over batch, heads and frames."""

    cos: Tensor  # (S, head_dim)
    sin: Tensor  # (S, head_dim), negative where the partner is subtracted


def token_positions(rows: int, columns: int, specials: int, device: torch.device | None = None) -> Tensor:
    """(S, 2) positions (y, x): special tokens at (0, 0), which rotates nothing, patches from (1, 1)."""
    y, x = torch.meshgrid(
        torch.arange(1, rows + 1, device=device), torch.arange(1, columns + 1, device=device), indexing="ij"
    )
    patches = torch.stack([y, x], -1).reshape(-1, 2)
    return torch.cat([patches.new_zeros(specials, 2), patches])


def rope_tables(positions: Tensor, head_dim: int, frequency: float, dtype: torch.dtype) -> RopeTables:
    """In half precision, frequencies, angles, cosines and sines are rounded, as under the autocast in which
    the published network runs on a GPU: its weights were trained with these angles, not the exact ones.
    """
    wide = torch.promote_types(dtype, torch.float32)
    quarter = head_dim // 4
    exponents = torch.arange(quarter, device=positions.device, dtype=wide) / quarter
    frequencies = (frequency**-exponents).to(dtype).to(wide)
    angles = (positions.to(wide)[..., None] * frequencies).to(dtype)  # (S, 2, head_dim / 4)
    cos, sin = angles.cos(), angles.sin()
    return RopeTables(
        torch.stack([cos, cos], -2).flatten(-3),
        torch.stack([-sin, sin], -2).flatten(-3),
    )


def rotate(x: Tensor, tables: RopeTables) -> Tensor:
    """x (..., S, head_dim): element j of each half is paired with the element a quarter of a head away."""
    partner = x.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return x * tables.cos + partner * tables.sin
