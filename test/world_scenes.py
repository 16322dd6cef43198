"""Hand-made scenes whose geometry is known, for the tests of the renderer."""

from __future__ import annotations

import numpy as np
import torch

from loger_ros.world.camera import Camera
from loger_ros.world.places.builder import Builder, Skin
from loger_ros.world.render.render import Rendered, render
from loger_ros.world.render.stage import build_stage
from loger_ros.world.render.tiling import tile_rays
from loger_ros.world.render.views import Views
from loger_ros.world.scene import LightMap, Scene

SUN = np.array([0.0, 0.0, 1.0])


def empty_builder(seed: int = 0) -> Builder:
    return Builder(np.random.default_rng(seed), "train", SUN, 0.6)


def plain(builder: Builder, role: str = "wall") -> Skin:
    return builder.skin(role, 1.0)


def scene_of(builder: Builder) -> Scene:
    light = LightMap(np.full((2, 2, 2), 255, np.uint8), (-50.0, -50.0), 100.0)
    return Scene("hand-made", "train", builder.shapes(), light, SUN, 0.6, np.full(3, 0.7), 1e9)


def looking(position: tuple[float, float, float], forward: tuple[float, float, float]) -> np.ndarray:
    """T_world_camera, level: x right, y down, z forward."""
    z = np.array(forward, float) / np.linalg.norm(forward)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, position
    return pose


def shoot(scenes: list[Scene], poses: np.ndarray, camera: Camera, seconds: float = 0.0) -> Rendered:
    """Every scene from every pose, scene by scene."""
    count = len(poses)
    views = Views(
        torch.arange(len(scenes)).repeat_interleave(count),
        torch.from_numpy(np.tile(poses, (len(scenes), 1, 1))),
        torch.zeros(count * len(scenes), dtype=torch.int64),
        torch.full((count * len(scenes),), seconds, dtype=torch.float64),
    )
    return render(build_stage(scenes), views, tile_rays(camera.rays()[None]))


def world_rays(camera: Camera, pose: np.ndarray) -> np.ndarray:
    """Directions in world axes whose length makes the ray parameter the depth. (H, W, 3) float64"""
    xy = camera.unproject(
        torch.stack(
            torch.meshgrid(torch.arange(camera.width), torch.arange(camera.height), indexing="xy"), -1
        ).double()
    ).numpy()
    return np.concatenate([xy, np.ones_like(xy[..., :1])], -1) @ pose[:3, :3].T
