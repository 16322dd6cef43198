"""Camera images → network input: straightened, at the network's angle of view, of one size, uint8 RGB."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from loger_ros.config import NO_PITCH
from loger_ros.types import Camera

PIXELS = 255_000  # most pixels of a network image under the published rule

_FINER = 2  # pixels looked up per pixel of a view, in each direction, at least; less than twice as many
_WIDEST = 20.0  # tangent of half the angle of the widest lens
_NOWHERE = -10  # pixel; outside of every image
_FARTHEST_TURN = 40.0  # degrees; a camera that looks to the ground or up is left as it is
_MODELS = {"plumb_bob": False, "rational_polynomial": False, "equidistant": True}  # True: fisheye


def target_size(width: int, height: int, patch: int = 14) -> tuple[int, int]:
    """The published size rule: about PIXELS pixels, whole patches, aspect nearly kept. → (width, height)."""
    scale = math.sqrt(PIXELS / (width * height))
    wide, high = width * scale, height * scale
    columns, rows = round(wide / patch), round(high / patch)
    while columns * patch * rows * patch > PIXELS:
        if columns / rows > wide / high:
            columns -= 1
        else:
            rows -= 1
    return patch * max(1, columns), patch * max(1, rows)


def resize(image: np.ndarray, size: tuple[int, int], method: str = "lanczos") -> np.ndarray:
    """(H, W, 3) uint8 → (height, width, 3) uint8 for size (width, height).

    "lanczos" is Pillow's filter, bit-equal to the published preparation. "bicubic" is torch's antialiased
    8-bit filter: its pixels differ by up to 4 of 255 (0.2 to 0.7 on average), in about a seventh of the time
    for 1920x1080 on one core.
    """
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    if method == "lanczos":
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    small = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


class Undistorter:
    """Straightens images of one camera; ``camera`` is the ideal camera that would have taken the result."""

    def __init__(self, camera: Camera) -> None:
        size = (camera.width, camera.height)
        coefficients = np.asarray(camera.distortion, dtype=float)
        if _fisheye(camera):
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
        self.camera = Camera(camera.width, camera.height, ideal, R_base_camera=camera.R_base_camera)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)


def attitude(R_base_camera: np.ndarray, pitch: float) -> np.ndarray:
    """R_base_view of a camera that looks to the same side, ``pitch`` degrees downwards, without a roll."""
    forward = R_base_camera[:, 2]
    side, down = math.atan2(forward[1], forward[0]), math.radians(pitch)
    ahead = np.array([math.cos(side) * math.cos(down), math.sin(side) * math.cos(down), -math.sin(down)])
    right = np.array([math.sin(side), -math.cos(side), 0.0])
    return np.stack([right, np.cross(ahead, right), ahead], -1)


class View:
    """Images of one camera as another one would have taken them from the same place: ``camera``.

    That one has no distortion, square pixels, its axis in the middle and ``field_of_view`` degrees across.
    Where it is known how ``source`` is mounted, it looks ``pitch`` degrees downwards, unless that is too far
    from how the source looks. What the lens did not see is black.
    """

    def __init__(
        self, source: Camera, size: tuple[int, int], field_of_view: float, pitch: float = NO_PITCH
    ) -> None:
        width, height = size
        focal = width / 2 / math.tan(math.radians(field_of_view) / 2)
        centre = (width - 1) / 2, (height - 1) / 2
        matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
        self.turn = turn_to(source, pitch)  # R_view_camera
        mounted = source.R_base_camera
        self.camera = Camera(
            width, height, matrix, R_base_camera=None if mounted is None else mounted @ self.turn.T
        )
        # Halved to a few times the wanted size, looked up as finely as that, then averaged.
        excess = max(source.matrix[0, 0], source.matrix[1, 1]) / focal
        most = min(source.width, source.height).bit_length() - 1
        self._halvings = min(most, max(0, math.floor(math.log2(excess / _FINER))))
        small = source.width >> self._halvings, source.height >> self._halvings
        self._even = small[0] << self._halvings, small[1] << self._halvings  # exact halves cost a quarter
        halved = scaled(replace(source, width=self._even[0], height=self._even[1]), small)
        self._finer = max(1, round(excess / 2**self._halvings))
        fine = (width * self._finer, height * self._finer)
        self._size = size
        self._maps = _maps_of(halved, scaled(self.camera, fine), self.turn)
        self._coarse_maps = _maps_of(source, self.camera, self.turn, cv2.CV_32FC1)  # others round down
        # depth along the new axis per depth along the old one
        ahead = _rays(self.camera, self.turn)[..., 2]
        self._stretch = np.where(ahead > 0, 1 / np.where(ahead > 0, ahead, 1), np.inf).astype(np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        image = image[: self._even[1], : self._even[0]]
        for _ in range(self._halvings):
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        seen = cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
        return seen if self._finer == 1 else cv2.resize(seen, self._size, interpolation=cv2.INTER_AREA)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """The same of a depth image (float32): the nearest pixel's, infinite beyond the camera's view."""
        nearest = cv2.remap(
            depth, *self._coarse_maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=np.inf
        )
        return nearest * self._stretch


def turn_to(source: Camera, pitch: float) -> np.ndarray:
    """R_view_camera of a view that looks ``pitch`` degrees downwards; no turn where that makes no sense."""
    if source.R_base_camera is None or pitch == NO_PITCH:
        return np.eye(3)
    turn = attitude(source.R_base_camera, pitch).T @ source.R_base_camera
    return turn if (np.trace(turn) - 1) / 2 >= math.cos(math.radians(_FARTHEST_TURN)) else np.eye(3)


def _maps_of(
    source: Camera, wanted: Camera, turn: np.ndarray, kind: int = cv2.CV_16SC2
) -> tuple[np.ndarray, np.ndarray]:
    """Where in the images of ``source`` the pixels of ``wanted``, from the same place, are."""
    coefficients = np.asarray(source.distortion, dtype=float)
    size = (wanted.width, wanted.height)
    if _fisheye(source):
        maps = cv2.fisheye.initUndistortRectifyMap(
            source.matrix, coefficients[:4], turn, wanted.matrix, size, kind
        )
    else:
        maps = cv2.initUndistortRectifyMap(source.matrix, coefficients, turn, wanted.matrix, size, kind)
    rays = _rays(wanted, turn)
    beyond = np.hypot(rays[..., 0], rays[..., 1]) > _reach(source) * rays[..., 2]
    for places in maps if kind == cv2.CV_32FC1 else maps[:1]:
        places[beyond] = _NOWHERE
    return maps


def _rays(wanted: Camera, turn: np.ndarray) -> np.ndarray:
    """(H, W, 3) where its pixels look, in the axes of the camera that it is turned against."""
    v, u = np.indices((wanted.height, wanted.width))
    return np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(wanted.matrix).T @ turn


def _reach(camera: Camera) -> float:
    """Tangent of the angle up to which the lens's formula is one-to-one; beyond, its images would repeat."""
    if not any(camera.distortion):
        return _WIDEST
    k = np.zeros(8)
    k[: min(8, len(camera.distortion))] = camera.distortion[:8]
    slope = np.linspace(0, _WIDEST, 4000)
    if _fisheye(camera):
        angle = np.arctan(slope)
        radius = angle * (1 + angle**2 * (k[0] + angle**2 * (k[1] + angle**2 * (k[2] + angle**2 * k[3]))))
    else:
        r2 = slope**2
        radius = (
            slope * (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
        )
    folds = np.flatnonzero(np.diff(radius) <= 0)
    return float(slope[folds[0]]) if len(folds) else _WIDEST


def _fisheye(camera: Camera) -> bool:
    if camera.model not in _MODELS:
        raise ValueError(f"distortion model {camera.model!r} is unknown; known: {', '.join(_MODELS)}")
    return _MODELS[camera.model]


def scaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same camera after its images were resized to (width, height)."""
    x, y = size[0] / camera.width, size[1] / camera.height
    # Pixel centres sit at whole numbers, so the image begins at -0.5 and that corner is what stays in place.
    resized = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return replace(camera, width=size[0], height=size[1], matrix=resized @ camera.matrix)


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
    ) -> None:
        """resolution: None (images have network size already), "auto" (the size rule) or (width, height).

        field_of_view: degrees across that the network expects; 0, or an unknown camera: images are resized.
        pitch: degrees downwards that it expects of a camera on a vehicle.
        """
        if isinstance(resolution, str) and resolution != "auto":
            raise ValueError(f'resolution {resolution!r} is unknown: give None, "auto" or (width, height)')
        if method not in ("lanczos", "bicubic"):
            raise ValueError(f'resize {method!r} is unknown: give "lanczos" or "bicubic"')
        self._patch = patch
        self._method = method
        self._source = camera
        self._field_of_view = field_of_view if camera else 0.0
        self._pitch = pitch
        self._view: View | None = None  # made at the first image
        # R_view_camera, by which the prepared images are turned against the camera; None: not at all
        self.turn: np.ndarray | None = None
        if camera is not None and camera.R_base_camera is not None and field_of_view:
            self.turn = turn_to(camera, pitch)
        straighten = camera is not None and any(camera.distortion) and not self._field_of_view
        self._undistort = Undistorter(camera) if camera and straighten else None
        self._resolution: str | tuple[int, int] | None = None
        if isinstance(resolution, str):
            self._resolution = resolution
        elif resolution is not None:
            width, height = (int(side) for side in resolution)
            _require_patches(width, height, patch)
            self._resolution = (width, height)

    def size_for(self, image: np.ndarray, begun: tuple[int, int] | None = None) -> tuple[int, int]:
        """Network size (width, height) of an image in a stream that began with size ``begun``."""
        height, width = image.shape[:2]
        if isinstance(self._resolution, tuple):
            return self._resolution
        if self._resolution == "auto":
            return begun or target_size(width, height, self._patch)
        _require_patches(width, height, self._patch)
        return width, height

    def camera_at(self, size: tuple[int, int]) -> Camera | None:
        """The camera of the prepared images, where the camera of the original ones is known."""
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
                    f"the image has {image.shape[1]}x{image.shape[0]} pixels, its camera info says "
                    f"{known.width}x{known.height}: send the camera info of this image mode"
                )
            if self._field_of_view:
                return torch.from_numpy(self._view_at(known, size)(image))
        if self._undistort:
            image = self._undistort(image)
        return torch.from_numpy(np.array(resize(image, size, self._method)))


def check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be a uint8 RGB array (H, W, 3); this one is {what}")
    if 0 in image.shape:
        raise ValueError(f"an image without pixels: {image.shape}")


def _require_patches(width: int, height: int, patch: int) -> None:
    if width < patch or height < patch or width % patch or height % patch:
        raise ValueError(
            f"the network takes images whose sides are multiples of {patch}, not {width}x{height}: "
            'set resolution to "auto" or to such a size'
        )


def network_input(images: list[Tensor], device: torch.device) -> Tensor:
    """n images (H, W, 3) uint8 → (1, n, 3, H, W) float32 in [0, 1]."""
    stacked = images[0][None] if len(images) == 1 else torch.stack(images)
    return stacked.to(device, non_blocking=True).permute(0, 3, 1, 2).div(255)[None]
