"""Scenes as tensors on one device: padded to equal counts, one row of numbers per shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loger_ros.world.paint.atlas import Atlas, atlas
from loger_ros.world.scene import SHAPES, Scene

# half repeat u and v, offset u and v, red, green, blue, density: texels per metre / sqrt(half thickness)
MATERIAL = 8


@dataclass(frozen=True, eq=False)
class Stage:
    """S scenes of K shapes each (padding included); shapes are ordered boxes, cylinders, ellipsoids."""

    counts: tuple[int, int, int]  # boxes, cylinders, ellipsoids per scene; their sum is K
    present: Tensor  # (S, K) bool; padding is False
    centre: Tensor  # (S, K, 3) float64
    sweep: Tensor  # (S, K, 4) float64
    moving: Tensor  # (S, K) bool
    axes: Tensor  # (S, K, 3, 3) float32: the half axes as rows
    radius: Tensor  # (S, K) float32: of the sphere around the shape's box
    to_unit: Tensor  # (S, K, 5) world offset → unit shape: [[a, b, 0], [c, d, 0], [0, 0, e]]
    material: Tensor  # (8, S * K * 6)
    texture: Tensor  # (S * K * 6,) int32
    light: Tensor  # (S * H * W,) int32: air in bits 0..7, ground in bits 16..23
    light_size: tuple[int, int]  # H, W
    light_frame: Tensor  # (S, 5) float64: origin x, y, cells per metre, last column, last row
    sky: Tensor  # (S, 11): sun, ambient, haze colour, 1 / haze distance, zenith colour
    atlas: Atlas

    @property
    def device(self) -> torch.device:
        return self.centre.device

    @property
    def shapes(self) -> int:
        return sum(self.counts)


def build_stage(scenes: Sequence[Scene], device: torch.device | str = "cpu") -> Stage:
    """All scenes of one stage use textures of the same split."""
    if not scenes:
        raise ValueError("a stage needs at least one scene")
    splits = {scene.split for scene in scenes}
    if len(splits) > 1:
        raise ValueError(
            f"scenes of different splits {sorted(splits)} cannot share a stage: build one for each"
        )
    textures = atlas(splits.pop(), torch.device(device))
    boxes, cylinders, ellipsoids = (max(len(scene.shapes[name]) for scene in scenes) for name in SHAPES)
    counts = (boxes, cylinders, ellipsoids)

    def padded(attribute: str, dtype: np.dtype | type) -> np.ndarray:
        blocks = []
        for name, count in zip(SHAPES, counts, strict=True):
            rows = [getattr(scene.shapes[name], attribute) for scene in scenes]
            block = np.zeros((len(scenes), count, *rows[0].shape[1:]), dtype)
            for target, row in zip(block, rows, strict=True):
                target[: len(row)] = row
            blocks.append(block)
        return np.concatenate(blocks, 1)

    texture = padded("texture", np.int64)
    textures.ensure(np.unique(texture).tolist())
    present = np.concatenate(
        [
            np.arange(count)[None] < np.array([len(scene.shapes[name]) for scene in scenes])[:, None]
            for name, count in zip(SHAPES, counts, strict=True)
        ],
        1,
    )
    half = padded("half", np.float64)
    half[~present] = 1.0
    yaw = padded("yaw", np.float64)
    sweep = padded("sweep", np.float64)
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    hx, hy, hz = np.moveaxis(half, -1, 0)
    axes = np.stack(
        [
            np.stack([cos * hx, sin * hx, zero], -1),
            np.stack([-sin * hy, cos * hy, zero], -1),
            np.stack([zero, zero, hz], -1),
        ],
        -2,
    )
    to_unit = np.stack([cos / hx, sin / hx, -sin / hy, cos / hy, 1 / hz], -1)

    repeat = padded("repeat", np.float64)
    tint = padded("tint", np.float64)
    # Textures are about as dense along v as along u; the mean decides the mip level.
    face_u = 2 * np.stack([hy, hy, hx, hx, hx, hx], -1)
    face_v = 2 * np.stack([hz, hz, hz, hz, hy, hy], -1)
    thickness = np.stack([hx, hx, hy, hy, hz, hz], -1)
    face_u[:, boxes:, 1] *= np.pi / 2  # for the side of a round shape, half its circumference
    thickness[:, boxes:] = 1.0  # the slant of round shapes is already metric
    dense = textures.size * np.sqrt(repeat[..., 0] / face_u * (repeat[..., 1] / face_v) / thickness)
    material = np.concatenate(
        [repeat / 2, padded("offset", np.float64) + repeat / 2, tint, dense[..., None]], -1
    )

    light_height = max(scene.light.values.shape[0] for scene in scenes)
    light_width = max(scene.light.values.shape[1] for scene in scenes)
    light = np.zeros((len(scenes), light_height, light_width), np.int32)
    for target, scene in zip(light, scenes, strict=True):
        values = scene.light.values.astype(np.int32)
        target[: values.shape[0], : values.shape[1]] = values[..., 0] | (values[..., 1] << 16)
    light_frame = np.array(
        [
            [*scene.light.origin, 1 / scene.light.cell, *np.subtract(scene.light.values.shape[1::-1], 1)]
            for scene in scenes
        ]
    )
    sky = np.array(
        [[*scene.sun, scene.ambient, *scene.haze, 1 / scene.haze_distance, *scene.sky] for scene in scenes]
    )

    def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)

    return Stage(
        counts=counts,
        present=tensor(present, torch.bool),
        centre=tensor(padded("centre", np.float64), torch.float64),
        sweep=tensor(sweep, torch.float64),
        moving=tensor(np.abs(sweep[..., :3]).sum(-1) > 0, torch.bool),
        axes=tensor(axes),
        radius=tensor(np.linalg.norm(half, axis=-1)),
        to_unit=tensor(to_unit),
        material=tensor(material.reshape(-1, MATERIAL).T),
        texture=tensor(texture.reshape(-1), torch.int32),
        light=tensor(light.reshape(-1), torch.int32),
        light_size=(light_height, light_width),
        light_frame=tensor(light_frame, torch.float64),
        sky=tensor(sky),
        atlas=textures,
    )
