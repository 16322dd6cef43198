"""Where points of one frame are visible in another: for training, from true depth and poses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loger_ros.world.camera import Camera, Lens

NEAR = 0.02  # metres in front of the target camera
EDGE = 1.15  # depths around a point that differ by more than this factor mean an edge
TOLERANCE = 0.03  # of the depth: how far apart two surfaces must be for one to hide the other


def patch_centres(height: int, width: int, patch: int) -> Tensor:
    """Pixel coordinates (x, y) of the middle of every patch, row by row. (N, 2)"""
    if height % patch or width % patch:
        raise ValueError(f"patches of {patch} pixels do not fill an image of {width}x{height}")
    y = torch.arange(height // patch) * patch + (patch - 1) / 2
    x = torch.arange(width // patch) * patch + (patch - 1) / 2
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).reshape(-1, 2)


def correspondences(
    points: Tensor,
    depth_source: Tensor,
    depth_target: Tensor,
    T_target_source: Tensor,
    camera: Camera | Sequence[Camera],
    moving_source: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Where the source frames' ``points`` are visible in the target frames, and whether they are.

    ``points`` (N, 2) in pixels, depths (B, H, W), ``T_target_source`` (B, 4, 4), one camera or B of them.
    Returns pixels (B, N, 2), valid only where the second result (B, N) is True: the point is in the image,
    not hidden by anything nearer, not on a depth edge or in the sky of either frame, and (given the mask)
    not on a moving thing.
    """
    points = points.to(depth_source)
    depth, steady = _depth_at(depth_source, points.expand(len(depth_source), -1, -1))  # (B, N)
    depth = torch.where(steady, depth, torch.ones_like(depth))
    cameras = [camera] if isinstance(camera, Camera) else list(camera)
    lens = Lens.of(cameras, depth)[:, None]  # (1 or B, 1, ...)
    directions = lens.unproject(points)  # (1 or B, N, 2)
    rays = torch.cat([directions, torch.ones_like(directions[..., :1])], -1)
    motion = T_target_source.to(depth)
    there = (rays * depth[..., None]) @ motion[:, :3, :3].transpose(1, 2) + motion[
        :, None, :3, 3
    ]  # (B, N, 3)
    in_front = there[..., 2] > NEAR
    pixels = lens.project(torch.where(in_front[..., None], there, torch.ones_like(there)))
    inside = in_front & (pixels >= 0).all(-1)
    height, width = depth_source.shape[1:]
    inside &= (pixels[..., 0] <= width - 1) & (pixels[..., 1] <= height - 1)
    seen, clear = _depth_at(depth_target, pixels)
    unhidden = (there[..., 2] - seen).abs() <= TOLERANCE * there[..., 2]
    valid = steady & inside & clear & unhidden
    if moving_source is not None:
        nearest = points.round().long()
        x, y = nearest[:, 0].clamp(0, width - 1), nearest[:, 1].clamp(0, height - 1)
        valid &= ~moving_source[:, y, x]
    return pixels, valid


def _depth_at(depth: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Depth between pixels (B, N, 2), exact on planes; whether the four neighbours belong to one surface."""
    batch, height, width = depth.shape
    x = pixels[..., 0].clamp(0, width - 1)
    y = pixels[..., 1].clamp(0, height - 1)
    left, top = x.floor().long().clamp(max=max(width - 2, 0)), y.floor().long().clamp(max=max(height - 2, 0))
    right, low = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    fx, fy = x - left, y - top
    flat = depth.reshape(batch, -1).reciprocal()  # 1 / depth is linear in the image of a plane; the sky is 0
    a, b, c, d = (flat.gather(1, row * width + column) for row in (top, low) for column in (left, right))
    inverse = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
    corners = torch.stack([a, b, c, d])
    steady = corners.amax(0) <= EDGE * corners.amin(0)
    steady &= corners.amin(0) > 0
    return inverse.clamp_min(1e-9).reciprocal(), steady
