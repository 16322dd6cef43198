"""The basic types of the package. Stamps are integer nanoseconds; poses ``T_a_b`` map points from b to a."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import index

import numpy as np
import torch
from torch import Tensor

CAMERA_FRAME = "camera_optical_frame"  # in ROS, for a camera that has no name of its own


@dataclass(frozen=True, eq=False)
class Frame:
    """One stamped image."""

    stamp: int  # nanoseconds
    image: np.ndarray  # (H, W, 3) uint8 RGB

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "stamp", index(self.stamp))  # NumPy integers may be unsigned
        except TypeError:
            raise TypeError(
                f"a stamp must be a whole number of nanoseconds, which {self.stamp!r} is not: use "
                "round(seconds * 1e9)"
            ) from None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one chunk. An output that was not asked for is None."""

    local_points: Tensor | None  # (B, N, H, W, 3) in each frame's camera: x right, y down, z forward
    confidence: Tensor | None  # (B, N, H, W, 1) logits
    camera_poses: Tensor | None  # (B, N, 4, 4) camera → chunk frame
    metric_scale: Tensor | None = None  # (B,) already applied; only from models that estimate metres


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with optional lens distortion, as ROS and OpenCV describe it."""

    width: int  # pixels
    height: int  # pixels
    matrix: np.ndarray  # (3, 3), the centre of the first pixel is (0, 0)
    distortion: tuple[float, ...] = ()  # coefficients in OpenCV's order
    model: str = "plumb_bob"  # or rational_polynomial, equidistant
    T_base_camera: np.ndarray | None = None  # (4, 4) its mounting on a vehicle (x forward, z up), if any

    def __post_init__(self) -> None:
        """Accept lists, too."""
        for name, size in (("matrix", 3), ("T_base_camera", 4)):
            value = getattr(self, name)
            if value is None and name == "T_base_camera":
                continue
            value = np.asarray(value, dtype=float)
            if value.shape != (size, size):
                raise ValueError(f"{name} of a camera must be {size}x{size}, but has shape {value.shape}")
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class PosedFrame:
    """Where the camera was when one image was taken."""

    stamp: int  # nanoseconds
    T_map_camera: np.ndarray  # (4, 4) float64
    covariance: np.ndarray  # (6, 6): x, y, z, then rotation about x, y, z, in the axes of the map
    final: bool  # False: a later chunk will estimate it again
    segment: int  # poses of one segment belong together; between segments the motion is unknown


@dataclass(frozen=True, eq=False)
class Update:
    """One chunk, placed in the map. Final frames come before provisional ones.

    Tensors are in the order of ``frames``; those of the network are on its device.
    """

    frames: tuple[PosedFrame, ...]
    images: Tensor  # (n, H, W, 3) uint8 RGB on the CPU, as the network saw them
    local_points: Tensor  # (n, H, W, 3) in each frame's camera, in map units
    confidence: Tensor  # (n, H, W, 1) logits
    chunk: int  # counted from the start of the segment
    T_map_chunk: np.ndarray  # (4, 4) float64, rotation and translation without the scale
    scale: float  # map units per unit of the chunk
    # (6, 6) covariance of one pose against the others of its chunk, in the camera's own axes, map units
    noise: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))

    @property
    def final_count(self) -> int:
        return sum(frame.final for frame in self.frames)

    def __getitem__(self, key: slice) -> Update:
        """Return the update for some of the frames."""
        return Update(
            self.frames[key],
            self.images[key],
            self.local_points[key],
            self.confidence[key],
            self.chunk,
            self.T_map_chunk,
            self.scale,
            self.noise,
        )

    def owned(self) -> Update:
        """Return a copy in memory of its own, so that the rest of the chunk can be freed."""
        return replace(
            self,
            images=self.images.clone(),
            local_points=self.local_points.clone(),
            confidence=self.confidence.clone(),
        )

    @staticmethod
    def joined(updates: Sequence[Update]) -> Update:
        """Join updates with frames of one size into one; what describes a chunk is from the last one."""
        if len(updates) == 1:
            return updates[0]
        return replace(
            updates[-1],
            frames=tuple(frame for update in updates for frame in update.frames),
            images=torch.cat([update.images for update in updates]),
            local_points=torch.cat([update.local_points for update in updates]),
            confidence=torch.cat([update.confidence for update in updates]),
        )


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses in the order of their stamps."""

    stamps: tuple[int, ...]  # nanoseconds
    T_map_camera: np.ndarray  # (N, 4, 4) float64
    segments: tuple[int, ...]  # one per pose

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True)
class Event:
    """Something an operator should know about."""

    name: str
    stamp: int  # nanoseconds; of the frame concerned
    message: str  # what happened, and what to do
