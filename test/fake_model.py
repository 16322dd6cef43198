"""A network of a few lines with the interface of the real one: deterministic, and its memory matters.

Patches are 2x2. Poses and depths depend on the images, on the memory and on each frame's place in the chunk,
so that a frame too many, a memory too old or a wrong place shows in every output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.types import Prediction


@dataclass(frozen=True)
class FakeFeatures:
    tokens: Tensor  # (B, N, P, 3)
    size: tuple[int, int]

    @staticmethod
    def cat(parts):
        return FakeFeatures(torch.cat([part.tokens for part in parts], 1), parts[0].size)

    def __getitem__(self, key):
        return FakeFeatures(self.tokens[key], self.size)


@dataclass(frozen=True)
class FakeMemory:
    fast: Tensor
    window: Tensor


class FakeModel:
    patch_size = 2
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.mix = torch.randn(13, 8, generator=generator)
        self.steps = 0

    def initial_memory(self):
        return FakeMemory(torch.zeros(4), torch.zeros(3))

    def reset_fast_weights(self, memory):
        return FakeMemory(torch.zeros(4), memory.window)

    def encode(self, images):
        height, width = images.shape[-2:]
        patches = images.unflatten(-1, (width // 2, 2)).unflatten(-3, (height // 2, 2)).mean((-1, -3))
        return FakeFeatures(patches.flatten(-2).transpose(-1, -2) - 0.5, (height, width))

    def step(
        self,
        images_or_features,
        memory,
        chunk_size=32,
        overlap=3,
        *,
        outputs=("local_points", "confidence", "camera_poses"),
        update_memory=True,
        update_fast_weights=True,
        fast_weights=True,
        sliding_window=True,
    ):
        self.steps += 1
        features = (
            images_or_features
            if isinstance(images_or_features, FakeFeatures)
            else self.encode(images_or_features)
        )
        tokens = features.tokens[0]  # (N, P, 3)
        count = len(tokens)
        before = min(overlap, count)
        middle = min(max(chunk_size - 2 * overlap, 0), count - before)
        place = torch.eye(3)[[0] * before + [1] * middle + [2] * (count - before - middle)]
        state = torch.cat([memory.fast * fast_weights, memory.window * sliding_window])  # (7,)
        means = tokens.mean(1)
        inputs = torch.cat([means * 3, place, state.expand(count, -1)], 1)
        hidden = (inputs @ self.mix).sin()  # (N, 8)
        poses = torch.eye(4).repeat(count, 1, 1)
        a = hidden[:, :3]
        zero = torch.zeros(count)
        cross = torch.stack([zero, -a[:, 2], a[:, 1], a[:, 2], zero, -a[:, 0], -a[:, 1], a[:, 0], zero], 1)
        poses[:, :3, :3] = torch.linalg.matrix_exp(cross.view(-1, 3, 3))
        poses[:, :3, 3] = hidden[:, 3:6]
        height, width = features.size
        grid = tokens.sum(-1).view(count, height // 2, width // 2)
        depth = (
            (grid.repeat_interleave(2, 1).repeat_interleave(2, 2) + hidden[:, 6, None, None]).mul(0.5).exp()
        )
        v, u = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        points = torch.stack([u * depth, v * depth, depth], -1)
        confidence = hidden[:, 7, None, None, None] + depth[..., None]
        prediction = Prediction(
            points[None] if "local_points" in outputs else None,
            confidence[None] if "confidence" in outputs else None,
            poses[None] if "camera_poses" in outputs else None,
        )
        if not update_memory:
            return prediction, memory
        total = means.mean(0)
        fast = (memory.fast * 0.8 + torch.cat([total, hidden.mean()[None]]) * 2).tanh()
        return prediction, FakeMemory(fast if update_fast_weights else memory.fast, total * 2)
