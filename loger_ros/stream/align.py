"""Places chunks in the map frame. Each chunk is placed by the frames it shares with the chunk before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from loger_ros.config import ALIGNMENTS, SCALE_MODES
from loger_ros.geometry import nearest_rotation, transform
from loger_ros.stream.robust import robust_join
from loger_ros.stream.scale import scale_between, scales_of_frames
from loger_ros.types import Update


@dataclass(frozen=True, eq=False)
class Placement:
    """A similarity: points p of the chunk go to scale * R p + t."""

    T_map_chunk: np.ndarray  # (4, 4) float64: R and t
    scale: float = 1.0
    scales: tuple[float, ...] = ()  # what each shared frame says about it, if it was asked for

    def __post_init__(self) -> None:
        self.T_map_chunk.setflags(write=False)  # it is handed out, and later chunks are placed by it

    def poses(self, T_chunk_camera: np.ndarray) -> np.ndarray:
        """Turn (n, 4, 4) camera → chunk into (n, 4, 4) camera → map, which is read-only, too."""
        scaled = T_chunk_camera.copy()
        scaled[:, :3, 3] *= self.scale
        T_map_camera = self.T_map_chunk @ scaled
        T_map_camera.setflags(write=False)
        return T_map_camera


HOME = Placement(np.eye(4))


@dataclass(frozen=True)
class Aligner:
    """alignment "none" trusts the memory to keep chunks consistent and joins them only if it was lost.

    "se3" and "sim3" join every chunk to the one before by the first frame they share; sim3 also estimates
    a scale, relative to the first chunk. "robust" is a sim3 that uses all shared frames.
    """

    alignment: str = "none"
    scale_mode: str = "median"

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment {self.alignment!r} is unknown; known: {', '.join(ALIGNMENTS)}")
        if self.scale_mode not in SCALE_MODES:
            raise ValueError(f"scale_mode {self.scale_mode!r} is unknown; known: {', '.join(SCALE_MODES)}")

    def place(
        self,
        last: Placement,
        shared: Update | None,
        T_chunk_camera: np.ndarray,
        local_points: Tensor,
        confidence: Tensor,
        *,
        memory_lost: bool,
    ) -> Placement:
        """Return where a chunk belongs, given the placement of the last one and the frames that they share.

        T_chunk_camera (n, 4, 4) float64, local_points (n, H, W, 3), confidence (n, H, W, 1): the network's.
        """
        if shared is None or not shared.frames or (self.alignment == "none" and not memory_lost):
            return last
        if self.alignment in ("none", "se3"):
            return join(shared.frames[0].T_map_camera, T_chunk_camera[0])
        known, new = shared.local_points[..., 2], local_points[..., 2]
        if self.alignment == "robust":
            T_map_chunk, scale = robust_join(shared, T_chunk_camera, local_points, confidence, last.scale)
        else:
            scale = scale_between(known, new, self.scale_mode, unknown=last.scale)
            T_map_chunk = join(shared.frames[0].T_map_camera, T_chunk_camera[0], scale).T_map_chunk
        return Placement(T_map_chunk, scale, scales_of_frames(known, new))


def join(T_map_camera: np.ndarray, T_chunk_camera: np.ndarray, scale: float = 1.0) -> Placement:
    """Return the placement that puts one camera of the chunk at its known pose in the map."""
    # Without this, the product of many float32 rotations would slowly stop being a rotation.
    rotation = nearest_rotation(T_map_camera[:3, :3] @ T_chunk_camera[:3, :3].T)
    translation = T_map_camera[:3, 3] - scale * rotation @ T_chunk_camera[:3, 3]
    return Placement(transform(rotation, translation), scale)
