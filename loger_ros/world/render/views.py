"""What to render."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Views:
    """B frames to look at: of which scene, from where, with which camera, at which time."""

    scene: Tensor  # (B,) int64
    pose: Tensor  # (B, 4, 4) float64, T_world_camera
    camera: Tensor  # (B,) int64
    seconds: Tensor  # (B,) float64

    def __len__(self) -> int:
        return len(self.scene)

    def part(self, start: int, stop: int) -> Views:
        return Views(
            self.scene[start:stop], self.pose[start:stop], self.camera[start:stop], self.seconds[start:stop]
        )
