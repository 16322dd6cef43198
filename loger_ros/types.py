"""The nouns of the package. Stamps are integer nanoseconds; poses ``T_a_b`` take points in b to points in a."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """One stamped image."""

    stamp: int  # nanoseconds
    image: np.ndarray  # (H, W, 3) uint8 RGB


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one chunk. An output that was not asked for is None."""

    local_points: Tensor | None  # (B, N, H, W, 3) in each frame's camera: x right, y down, z forward
    confidence: Tensor | None  # (B, N, H, W, 1) logits
    camera_poses: Tensor | None  # (B, N, 4, 4) camera → chunk frame
