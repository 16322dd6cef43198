"""A pinhole camera, optionally with plumb-bob distortion. As in ROS, (0, 0) is the centre of a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from loger_ros import types

UNDISTORT_STEPS = 20  # of Newton's method; most lenses need only a few
CHECKED = 33  # places in each direction at which a lens has to be invertible


@dataclass(frozen=True)
class Camera:
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()  # k1, k2, p1, p2, k3; empty: none

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a camera needs at least one pixel, got {self.width}x{self.height}")
        if len(self.distortion) not in (0, 5):
            raise ValueError(f"distortion has 5 numbers (k1, k2, p1, p2, k3), got {len(self.distortion)}")
        if any(self.distortion) and not self._can_be_undone():
            raise ValueError(
                f"distortion {self.distortion} folds the image of a camera with {self.width}x{self.height} "
                f"pixels and focal length {self.fx:.4g}: lower the distortion or the field of view"
            )

    def _can_be_undone(self) -> bool:
        """Whether every pixel has a direction that leads back to it, without a fold on the way."""
        rows, columns = (torch.linspace(0, side - 1, CHECKED).double() for side in (self.height, self.width))
        pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
        lens = Lens.of([self], pixels)[0]
        ideal = lens.unproject(pixels)
        back = lens.project(torch.cat([ideal, torch.ones_like(ideal[..., :1])], -1))
        xx, xy, yy = lens.slopes(torch.linspace(0, 1, CHECKED).double()[:, None, None, None] * ideal)
        upright = (xx > 0) & (xx * yy > xy * xy)
        return bool(upright.all() and ((back - pixels).abs() < 0.01).all())

    @classmethod
    def from_fov(cls, width: int, height: int, hfov: float, distortion: tuple[float, ...] = ()) -> Camera:
        """Square pixels, principal point in the middle; ``hfov`` in degrees, before distortion."""
        if not 1 <= hfov <= 170:
            raise ValueError(f"the horizontal field of view must be 1 to 170 degrees, got {hfov}")
        focal = width / 2 / math.tan(math.radians(hfov) / 2)
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, distortion)

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the same image scaled to another size, for example by area averaging."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def described(self) -> types.Camera:
        """Return the camera as ROS and OpenCV describe it."""
        return types.Camera(self.width, self.height, self.matrix(), self.distortion)

    def matrix(self) -> np.ndarray:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])  # (3, 3)

    def rays(self, device: torch.device | str = "cpu") -> Tensor:
        """(x, y) of every pixel's viewing direction (x, y, 1)."""
        rows = torch.arange(self.height, dtype=torch.float64)
        columns = torch.arange(self.width, dtype=torch.float64)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return self.unproject(torch.stack([x, y], -1)).float().to(device)  # (H, W, 2)

    def unproject(self, pixels: Tensor) -> Tensor:
        """Pixels (..., 2) to undistorted directions (x, y) of (x, y, 1)."""
        return Lens.of([self], pixels)[0].unproject(pixels)

    def project(self, points: Tensor) -> Tensor:
        """Points (..., 3) in front of the camera to pixels (..., 2)."""
        return Lens.of([self], points)[0].project(points)


@dataclass(frozen=True, eq=False)
class Lens:
    """The optics of one or many cameras, as tensors that broadcast against points."""

    focal: Tensor  # (..., 2)
    centre: Tensor  # (..., 2)
    distortion: Tensor | None  # (..., 5)

    @classmethod
    def of(cls, cameras: Sequence[Camera], like: Tensor) -> Lens:
        """(B, 2), (B, 2) and (B, 5) or None, of the type and on the device of ``like``."""

        def stacked(rows: list[tuple[float, ...]]) -> Tensor:
            return torch.tensor(rows, dtype=torch.float64).to(like)

        focal = stacked([(camera.fx, camera.fy) for camera in cameras])
        centre = stacked([(camera.cx, camera.cy) for camera in cameras])
        if not any(any(camera.distortion) for camera in cameras):
            return cls(focal, centre, None)
        return cls(focal, centre, stacked([camera.distortion or (0.0,) * 5 for camera in cameras]))

    def __getitem__(self, index: int | tuple) -> Lens:
        distortion = None if self.distortion is None else self.distortion[index]
        return Lens(self.focal[index], self.centre[index], distortion)

    def unproject(self, pixels: Tensor) -> Tensor:
        distorted = (pixels - self.centre) / self.focal
        if self.distortion is None:
            return distorted
        ideal = distorted
        for _ in range(UNDISTORT_STEPS):
            x, y = (self._distort(ideal) - distorted).unbind(-1)
            xx, xy, yy = self.slopes(ideal)
            step = torch.stack([yy * x - xy * y, xx * y - xy * x], -1)
            ideal = ideal - step / (xx * yy - xy * xy)[..., None]
        return ideal

    def project(self, points: Tensor) -> Tensor:
        return self._distort(points[..., :2] / points[..., 2:]) * self.focal + self.centre

    def slopes(self, ideal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return derivatives of distorted by undistorted directions: x by x, each by the other, y by y."""
        assert self.distortion is not None
        k1, k2, p1, p2, k3 = self.distortion.unbind(-1)
        x, y = ideal.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        growth = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
        return (
            radial + x * x * growth + 2 * p1 * y + 6 * p2 * x,
            x * y * growth + 2 * p1 * x + 2 * p2 * y,
            radial + y * y * growth + 6 * p1 * y + 2 * p2 * x,
        )

    def _distort(self, ideal: Tensor) -> Tensor:
        if self.distortion is None:
            return ideal
        k1, k2, p1, p2, k3 = self.distortion.unbind(-1)
        x, y = ideal.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return torch.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )
