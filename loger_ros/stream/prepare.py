"""Turns camera images into network input: undistorted, the network's field of view, one size, uint8 RGB."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from loger_ros.config import NO_PITCH
from loger_ros.failures import is_out_of_memory
from loger_ros.geometry import transform
from loger_ros.resampling import FILTERS
from loger_ros.stream.lanczos import lanczos
from loger_ros.stream.lens import bends, check_lens, is_fisheye, scaled
from loger_ros.stream.view import View, turn_to
from loger_ros.types import Camera

CPU = torch.device("cpu")
PIXELS = 255_000  # most pixels of a network image under the published rule


def target_size(width: int, height: int, patch: int = 14) -> tuple[int, int]:
    """Return the published size (width, height): about PIXELS pixels, whole patches, aspect nearly kept."""
    scale = math.sqrt(PIXELS / (width * height))
    wide, high = width * scale, height * scale
    columns, rows = round(wide / patch), round(high / patch)
    while columns * patch * rows * patch > PIXELS:
        if columns / rows > wide / high:
            columns -= 1
        else:
            rows -= 1
    return patch * max(1, columns), patch * max(1, rows)


def resize(
    image: np.ndarray,
    size: tuple[int, int],
    method: str = "lanczos",
    device: torch.device = CPU,
) -> np.ndarray:
    """(H, W, 3) uint8 → (height, width, 3) uint8 for size (width, height).

    "lanczos" is Pillow's filter, bit-equal to the published preparation, on the CPU and on a GPU. "bicubic"
    is torch's antialiased 8-bit filter on the CPU: its pixels differ by up to 4 of 255 (0.2 to 0.7 on
    average), and it takes about a seventh of the time for 1920x1080 on one core.
    """
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    if method == "lanczos":
        return _by_lanczos(image, size, device)
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    small = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


def _by_lanczos(image: np.ndarray, size: tuple[int, int], device: torch.device) -> np.ndarray:
    if device.type == "cuda":
        try:
            return lanczos(image, size, device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    # In two steps: if asked for both at once, Pillow from version 13 on chooses their order itself.
    wide = Image.fromarray(image).resize((size[0], image.shape[0]), FILTERS.LANCZOS)
    return np.asarray(wide.resize(size, FILTERS.LANCZOS))


class Undistorter:
    """Undistorts images of one camera; ``camera`` is the ideal camera that would have taken the result."""

    def __init__(self, camera: Camera) -> None:
        check_lens(camera)
        size = (camera.width, camera.height)
        coefficients = np.asarray(camera.distortion, dtype=float)
        if is_fisheye(camera):
            ideal = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                camera.matrix, coefficients[:4], size, np.eye(3), balance=0.0
            )
            maps = cv2.fisheye.initUndistortRectifyMap(
                camera.matrix, coefficients[:4], np.eye(3), ideal, size, cv2.CV_16SC2
            )
        else:
            # alpha 0: only pixels that the lens really saw, no black borders that would look like walls
            ideal, _ = cv2.getOptimalNewCameraMatrix(camera.matrix, coefficients, size, 0.0)
            maps = cv2.initUndistortRectifyMap(camera.matrix, coefficients, None, ideal, size, cv2.CV_16SC2)
        self._maps = maps
        self.camera = Camera(camera.width, camera.height, ideal, T_base_camera=camera.T_base_camera)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)


class Preparation:
    """One camera's images at one network size."""

    def __init__(
        self,
        resolution: str | tuple[int, int] | None = None,
        *,
        patch: int = 14,
        method: str = "lanczos",
        camera: Camera | None = None,
        field_of_view: float = 0.0,
        pitch: float = NO_PITCH,
        device: torch.device = CPU,
    ) -> None:
        """device: the network's, which may help with resizing.

        resolution: None (images have network size already), "auto" (the size rule) or (width, height).

        field_of_view: degrees across that the network expects; 0, or an unknown camera: images are resized.
        pitch: degrees downwards that it expects a camera on a vehicle to look.
        """
        if isinstance(resolution, str) and resolution != "auto":
            raise ValueError(f'resolution {resolution!r} is unknown: give None, "auto" or (width, height)')
        if method not in ("lanczos", "bicubic"):
            raise ValueError(f'resize {method!r} is unknown: give "lanczos" or "bicubic"')
        if camera is not None:
            check_lens(camera)
        self._patch = patch
        self._method, self._device = method, device
        self._source = camera
        self._field_of_view = field_of_view if camera else 0.0
        self._pitch = pitch
        self._view: View | None = None  # made at the first image
        # R_view_camera, the rotation of the prepared images against the camera; None: no rotation
        self.turn: np.ndarray | None = None
        if camera is not None and camera.T_base_camera is not None and field_of_view:
            turn = turn_to(camera, pitch)
            self.turn = None if np.allclose(turn, np.eye(3), atol=1e-9) else turn
        # (4, 4) where the camera of the prepared images sits on a vehicle; None: not known
        self.T_base_view = camera.T_base_camera if camera else None
        if self.T_base_view is not None and self.turn is not None:
            self.T_base_view = self.T_base_view @ transform(self.turn.T, np.zeros(3))
        straighten = camera is not None and bends(camera) and not self._field_of_view
        self._undistort = Undistorter(camera) if camera and straighten else None
        self._resolution: str | tuple[int, int] | None = None
        if isinstance(resolution, str):
            self._resolution = resolution
        elif resolution is not None:
            width, height = (int(side) for side in resolution)
            _require_patches(width, height, patch)
            self._resolution = (width, height)

    def size_for(self, image: np.ndarray, begun: tuple[int, int] | None = None) -> tuple[int, int]:
        """Return the network size (width, height) of an image in a stream that began with size ``begun``."""
        height, width = image.shape[:2]
        if isinstance(self._resolution, tuple):
            return self._resolution
        if self._resolution == "auto":
            return begun or target_size(width, height, self._patch)
        _require_patches(width, height, self._patch)
        return width, height

    def camera_at(self, size: tuple[int, int]) -> Camera | None:
        """Return the camera of the prepared images, if the camera of the original ones is known."""
        if self._source and self._field_of_view:
            return self._view_at(self._source, size).camera
        source = self._undistort.camera if self._undistort else self._source
        return scaled(source, size) if source else None

    def _view_at(self, source: Camera, size: tuple[int, int]) -> View:
        if self._view is None or (self._view.camera.width, self._view.camera.height) != size:
            self._view = View(source, size, self._field_of_view, self._pitch)
        return self._view

    def __call__(self, image: np.ndarray, size: tuple[int, int]) -> Tensor:
        """(H, W, 3) uint8 RGB → (height, width, 3) uint8 on the CPU, in memory of its own."""
        known = self._source
        if known and (self._undistort or self._field_of_view):
            if image.shape[:2] != (known.height, known.width):
                raise ValueError(
                    f"the image has {image.shape[1]}x{image.shape[0]} pixels, but its camera info says "
                    f"{known.width}x{known.height}: send the camera info of this image mode"
                )
            if self._field_of_view:
                return torch.from_numpy(self._view_at(known, size)(image))
        if self._undistort:
            image = self._undistort(image)
        return torch.from_numpy(np.array(resize(image, size, self._method, self._device)))


def check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be a uint8 RGB array (H, W, 3); this one is {what}")
    if 0 in image.shape:
        raise ValueError(f"an image has no pixels: its shape is {image.shape}")


def _require_patches(width: int, height: int, patch: int) -> None:
    if width < patch or height < patch or width % patch or height % patch:
        raise ValueError(
            f"the network takes images whose sides are multiples of {patch}, not {width}x{height}: "
            'set resolution to "auto" or to such a size'
        )


def network_input(images: list[Tensor], device: torch.device) -> Tensor:
    """n images (H, W, 3) uint8 → (1, n, 3, H, W) float32 in [0, 1]."""
    stacked = images[0][None] if len(images) == 1 else torch.stack(images)
    return stacked.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)[None]
