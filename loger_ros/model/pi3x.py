"""The optional heads of pi3x: a convolutional point head and one metric scale per chunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.config import ModelConfig
from loger_ros.model.layers import LayerNorm, Linear, Mlp
from loger_ros.model.rope import RopeTables, rotate

_BRANCH_WIDTH = 32
_MAX_LOG_DEPTH = 15.0


class ConvolutionalPointHead(nn.Module):
    """Doubles the patch map per stage, then resizes it to the image; coordinates are appended each time."""

    def __init__(self, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.ConvTranspose2d(inputs + 2, width, 2, stride=2), _conv3x3(width, width)),
                _ResidualConvolution(width),
                _ResidualConvolution(width),
            )
            for inputs, width in zip((dim, *widths), widths, strict=False)
        )
        self.output_block = nn.ModuleList(
            nn.Sequential(
                _conv3x3(widths[-1] + 2, _BRANCH_WIDTH), nn.ReLU(), nn.Conv2d(_BRANCH_WIDTH, channels, 1)
            )
            for channels in (2, 1)  # slopes, log depth
        )

    def forward(self, tokens: Tensor, rows: int, columns: int, size: tuple[int, int]) -> Tensor:
        """(F, rows * columns, dim) → (F, H, W, 3) slopes and log depth."""
        x = tokens.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        for stage in self.upsample_blocks:
            x = stage(_with_coordinates(x, size))
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = _with_coordinates(x, size)
        slopes, log_depth = (branch(x) for branch in self.output_block)
        return torch.cat([slopes, log_depth.clamp_max(_MAX_LOG_DEPTH)], 1).permute(0, 2, 3, 1)


class _ResidualConvolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.ReLU(),
            _conv3x3(width, 2 * width),
            nn.GroupNorm(2 * width // 32, 2 * width),
            nn.ReLU(),
            _conv3x3(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


def _with_coordinates(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Appends u, v of the pixel centres on an image plane whose diagonal is 2 long."""
    height, width = x.shape[-2:]
    aspect = size[1] / size[0]
    reach_u, reach_v = aspect / (1 + aspect**2) ** 0.5, 1 / (1 + aspect**2) ** 0.5
    u = _centres(reach_u, width, x).expand(height, width)
    v = _centres(reach_v, height, x)[:, None].expand(height, width)
    return torch.cat([x, torch.stack([u, v]).expand(len(x), 2, height, width)], 1)


def _centres(reach: float, count: int, like: Tensor) -> Tensor:
    end = reach * (count - 1) / count
    return torch.linspace(-end, end, count, dtype=like.dtype, device=like.device)


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor, rope: RopeTables) -> Tensor:
        """x (B, 1, C) at position zero, context (B, N, S, C)."""
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, h, 1, d)
        k, v = (
            projection(context).unflatten(-1, (self.num_heads, -1)).permute(0, 3, 1, 2, 4)
            for projection in (self.k_proj, self.v_proj)
        )  # (B, h, N, S, d)
        k = rotate(k, rope).flatten(2, 3)
        out = F.scaled_dot_product_attention(q, k, v.flatten(2, 3))
        return self.proj(out.transpose(1, 2).flatten(2))


class _MetricBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm2 = LayerNorm(dim, eps=1e-6)
        self.norm_y = LayerNorm(dim, eps=1e-6)
        self.cross_attn = _CrossAttention(dim, num_heads)
        self.norm3 = LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, x: Tensor, context: Tensor, rope: RopeTables) -> Tensor:
        x = x + self.cross_attn(self.norm2(x), self.norm_y(context), rope)
        return x + self.mlp(self.norm3(x))


class MetricDecoder(nn.Module):
    """One query that attends to every token of the chunk."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, inputs = config.pi3x_dims, 2 * config.decoder.dim
        self.projects_x = Linear(inputs, dims.metric_dim)
        self.projects_y = Linear(inputs, dims.metric_dim)
        self.blocks = nn.ModuleList(
            _MetricBlock(dims.metric_dim, dims.metric_heads, config.heads.mlp_ratio)
            for _ in range(config.heads.depth)
        )
        self.linear_out = Linear(dims.metric_dim, dims.metric_dim)

    def forward(self, token: Tensor, tokens: Tensor, rope: RopeTables) -> Tensor:
        """token (1, 1, inputs), tokens (B, N, S, inputs) → (B, metric_dim)."""
        context = self.projects_y(tokens)
        x = self.projects_x(token).expand(len(tokens), -1, -1)
        for block in self.blocks:
            x = block(x, context, rope)
        return self.linear_out(x)[:, 0]
