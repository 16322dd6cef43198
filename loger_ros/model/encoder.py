"""Image encoder: a vision transformer whose register tokens take part and are then dropped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.blocks import Block
from loger_ros.model.config import EncoderConfig
from loger_ros.model.layers import LayerNorm

_SIZES_KEPT = 8  # interpolated position tables; a stream has one image size, a data set a few


@dataclass(frozen=True, eq=False)
class Features:
    """Encoded frames, each independent of the others."""

    tokens: Tensor  # (B, N, patches, C)
    size: tuple[int, int]  # height and width of the images

    @staticmethod
    def cat(parts: list[Features]) -> Features:
        """Joins along the frames."""
        if len({part.size for part in parts}) != 1:
            raise ValueError(f"features of different image sizes cannot be joined: {[p.size for p in parts]}")
        return Features(torch.cat([part.tokens for part in parts], 1), parts[0].size)

    def __getitem__(self, frames: slice | tuple[slice, slice]) -> Features:
        return Features(self.tokens[frames], self.size)

    def __len__(self) -> int:
        return self.tokens.shape[1]


class PatchEmbedding(nn.Module):
    """A strided convolution, computed in the dtype of its weights."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(F, 3, H, W) → (F, patches, C), rows first."""
        return self.proj(images.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, config: EncoderConfig, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid = config.img_size // patch_size
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid**2, config.dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, config.num_registers, config.dim) * 0.02)
        self.patch_embed = PatchEmbedding(patch_size, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.mlp_ratio, qk_norm=False, layer_scale=1.0)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.dim, eps=1e-6)
        self._tables: dict[tuple[int, int], Tensor] = {}
        self._tables_of: tuple[object, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        """(F, 3, H, W) normalised → (F, patches, C)."""
        table = self.position_table(images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), self.patch_embed(images)], 1) + table
        x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        specials = 1 + self.register_tokens.shape[1]
        x = x[:, None]  # one frame per batch element
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0, specials:])

    def position_table(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, C): the learned grid resized; cached per size while it is not trained."""
        if torch.is_grad_enabled() and self.pos_embed.requires_grad:
            return self._resized_positions(rows, columns)
        source = (
            self.pos_embed.data_ptr(),
            None if self.pos_embed.is_inference() else self.pos_embed._version,
            self.pos_embed.dtype,
            self.pos_embed.device,
        )
        if source != self._tables_of or len(self._tables) >= _SIZES_KEPT:
            self._tables, self._tables_of = {}, source
        if (rows, columns) not in self._tables:
            # A training step may follow an inference, so cached tables must not be inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                self._tables[rows, columns] = self._resized_positions(rows, columns).detach()
        return self._tables[rows, columns]

    def _resized_positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.grid:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        # With antialias, torch uses another bicubic kernel even when enlarging; the weights expect it.
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)
