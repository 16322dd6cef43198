"""From decoder tokens to points, confidence and camera poses. Everything after a head decoder is float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.blocks import Block
from loger_ros.model.config import HeadsConfig
from loger_ros.model.layers import Linear
from loger_ros.model.rope import RopeTables
from loger_ros.model.rotation import nearest_rotation


class HeadDecoder(nn.Module):
    """A few blocks of attention within each frame."""

    def __init__(self, inputs: int, outputs: int, config: HeadsConfig) -> None:
        super().__init__()
        self.projects = Linear(inputs, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.mlp_ratio, qk_norm=False, layer_scale=None)
            for _ in range(config.depth)
        )
        self.linear_out = Linear(config.dim, outputs)

    def forward(self, x: Tensor, rope: RopeTables) -> Tensor:
        """(F, S, inputs) → (F, S, outputs)."""
        x = self.projects(x)[:, None]  # one frame per batch element
        for block in self.blocks:
            x = block(x, rope)
        return self.linear_out(x[:, 0])


class PatchHead(nn.Module):
    """One linear layer from a patch token to the patch's pixels."""

    def __init__(self, dim: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = Linear(dim, channels * patch_size**2)

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(F, rows * columns, dim) → (F, H, W, channels)."""
        x = self.proj(tokens).unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(x, self.patch_size).permute(0, 2, 3, 1)


def unproject(raw: Tensor) -> Tensor:
    """(..., 3) slopes a, b and log depth t → points (a z, b z, z) with z = exp t."""
    slopes, log_depth = raw.split([2, 1], -1)
    z = log_depth.exp()
    return torch.cat([slopes * z, z], -1)


class ResidualUnit(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv1 = Linear(dim, dim)
        self.res_conv2 = Linear(dim, dim)
        self.res_conv3 = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.res_conv1(x))
        y = F.relu(self.res_conv2(y))
        return x + F.relu(self.res_conv3(y))


class CameraHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv = nn.ModuleList([ResidualUnit(dim), ResidualUnit(dim)])
        self.more_mlps = nn.Sequential(Linear(dim, dim), nn.ReLU(), Linear(dim, dim), nn.ReLU())
        self.fc_t = Linear(dim, 3)
        self.fc_rot = Linear(dim, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        """(F, patches, dim) → (F, 4, 4) T_chunk_camera."""
        for unit in self.res_conv:
            tokens = unit(tokens)
        x = self.more_mlps(tokens.mean(1))
        rows = F.normalize(self.fc_rot(x).unflatten(-1, (3, 3)), dim=-1)
        upper = torch.cat([nearest_rotation(rows), self.fc_t(x)[..., None]], -1)  # (F, 3, 4)
        last = torch.eye(4, dtype=upper.dtype, device=upper.device)[3]
        return torch.cat([upper, last.expand(len(upper), 1, 4)], -2)
