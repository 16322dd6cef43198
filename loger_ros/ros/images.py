"""Converts image messages to RGB uint8 arrays, without a copy if the layout allows."""

from __future__ import annotations

import io
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image as Pillow

JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
TAIL = 4096  # bytes at the end; some cameras fill the last ones with zeros
JPEG_GREY = 128  # value of pixels that are missing in a JPEG
MORE = bytes(range(1, 64))  # arbitrary picture data


class ImageError(ValueError):
    """An image that cannot be read; the message says why and what to do."""


class Layout(NamedTuple):
    channels: int  # per pixel, as they lie in memory
    bits: int  # per channel
    conversion: int | None  # of OpenCV, to RGB; None: the first three channels are RGB


# OpenCV calls a Bayer pattern by the second row's second and third pixel: RGGB is its BG.
LAYOUTS = {
    "rgb8": Layout(3, 8, None),
    "rgba8": Layout(4, 8, None),
    "bgr8": Layout(3, 8, cv2.COLOR_BGR2RGB),
    "bgra8": Layout(4, 8, cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, 8, cv2.COLOR_GRAY2RGB),
    "8UC1": Layout(1, 8, cv2.COLOR_GRAY2RGB),
    "8UC3": Layout(3, 8, cv2.COLOR_BGR2RGB),
    "8UC4": Layout(4, 8, cv2.COLOR_BGRA2RGB),
    "rgb16": Layout(3, 16, None),
    "rgba16": Layout(4, 16, None),
    "bgr16": Layout(3, 16, cv2.COLOR_BGR2RGB),
    "bgra16": Layout(4, 16, cv2.COLOR_BGRA2RGB),
    "mono16": Layout(1, 16, cv2.COLOR_GRAY2RGB),
    **{
        f"bayer_{pattern}{bits}": Layout(1, bits, conversion)
        for bits in (8, 16)
        for pattern, conversion in (
            ("rggb", cv2.COLOR_BayerBG2RGB),
            ("bggr", cv2.COLOR_BayerRG2RGB),
            ("gbrg", cv2.COLOR_BayerGR2RGB),
            ("grbg", cv2.COLOR_BayerGB2RGB),
        )
    },
    "uyvy": Layout(2, 8, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": Layout(2, 8, cv2.COLOR_YUV2RGB_UYVY),  # the older name
    "yuyv": Layout(2, 8, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422_yuy2": Layout(2, 8, cv2.COLOR_YUV2RGB_YUY2),
}


def rgb_of(message: Any, max_pixels: int) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB of a sensor_msgs/Image. It may share the message's memory."""
    _check_size(message.width, message.height, max_pixels)
    layout = LAYOUTS.get(message.encoding)
    if layout is None:
        return _by_cv_bridge(message)
    pixels = _pixels(message, layout)
    if layout.bits == 16:
        pixels = (pixels >> 8).astype(np.uint8)
    if layout.conversion is None:
        return pixels[..., :3]
    return _converted(pixels, layout.conversion, message)


def rgb_of_compressed(message: Any, max_pixels: int) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB of a sensor_msgs/CompressedImage that holds a JPEG or PNG."""
    data = np.frombuffer(message.data, np.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(
                io.BytesIO(message.data), formats=("JPEG", "PNG")
            ) as header:  # decodes nothing yet
                width, height = header.size
    except Pillow.DecompressionBombError as error:
        raise ImageError(f"a compressed image is larger than can be read ({error})") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(
            f"a compressed image of format {message.format!r} with {len(data)} bytes is damaged or neither "
            "JPEG nor PNG; have the camera send one of these, or set input.image_transport to raw"
        ) from error
    _check_size(width, height, max_pixels)
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        decoded, reason = None, f" ({error.err})"
    else:
        reason = ""
    if decoded is None:
        raise ImageError(
            f"a compressed image of {len(data)} bytes is damaged{reason}; check the connection to the camera"
        )
    if not _whole(data, decoded):
        raise ImageError(
            f"a compressed image of {len(data)} bytes ends early: part of its {width}x{height} pixels is "
            "missing; check the connection to the camera, and whether its driver drops packets"
        )
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _whole(data: np.ndarray, decoded: np.ndarray) -> bool:
    """Whether all pixels were there. The decoders fill in missing ones without reporting it."""
    tail = data[-TAIL:].tobytes().rstrip(b"\0")
    if not tail.endswith((JPEG_END, PNG_END)):  # cut off, or followed by something
        try:
            with Pillow.open(io.BytesIO(data.tobytes()), formats=("JPEG", "PNG")) as image:
                image.load()
        except (OSError, SyntaxError):
            return False
    if not tail.endswith(JPEG_END) or (decoded[-1, -1] != JPEG_GREY).any():
        return True
    # Grey at the end may mean that data is missing before the end mark. More data then changes the picture;
    # after a complete one it is ignored.
    end = data.tobytes().rindex(JPEG_END)
    longer = np.frombuffer(data.tobytes()[:end] + MORE + JPEG_END, np.uint8)
    other = cv2.imdecode(longer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return other is not None and np.array_equal(other, decoded)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"an image of {width}x{height} pixels is empty; check the camera driver")
    if width * height > max_pixels:
        raise ImageError(
            f"an image of {width}x{height} pixels is larger than input.max_pixels allows ({max_pixels}); "
            "raise it, or have the camera send smaller images"
        )


def _pixels(message: Any, layout: Layout) -> np.ndarray:
    """(H, W) or (H, W, channels), a view of the message."""
    width, height, channels = message.width, message.height, layout.channels
    size = layout.bits // 8
    row = width * channels * size
    least = message.step * (height - 1) + row
    if message.step < row or len(message.data) < least:
        raise ImageError(
            f"an image claims {message.encoding} {width}x{height} with {message.step} bytes per row, which "
            f"takes {max(row, message.step) * (height - 1) + row} bytes, but it has {len(message.data)}; "
            "check the camera driver"
        )
    kind = np.dtype("u1" if size == 1 else ">u2" if message.is_bigendian else "<u2")
    shape, strides = (height, width, channels), (message.step, channels * size, size)
    pixels: np.ndarray = np.ndarray(shape, kind, message.data, strides=strides)
    return pixels[..., 0] if channels == 1 else pixels


def _converted(pixels: np.ndarray, conversion: int, message: Any) -> np.ndarray:
    said = f"an image of {message.encoding} {message.width}x{message.height} cannot be converted"
    if pixels.ndim == 3 and pixels.shape[2] == 2 and message.width % 2:  # OpenCV 4.5 writes past its end
        raise ImageError(f"{said} (its width is odd, but two pixels share a colour); check the camera driver")
    try:
        return cv2.cvtColor(pixels, conversion)
    except cv2.error as error:
        raise ImageError(f"{said} ({error.err}); check the camera driver") from error


def _by_cv_bridge(message: Any) -> np.ndarray:
    known = ", ".join(LAYOUTS)
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # one built for another NumPy may raise anything
        raise ImageError(
            f"images of encoding {message.encoding!r} need cv_bridge, which cannot be imported ({error}): "
            f"install ros-<distribution>-cv-bridge, or have the camera send one of {known}"
        ) from error
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # cv_bridge's own error type lives in a module of its own
        raise ImageError(
            f"cv_bridge cannot convert encoding {message.encoding!r} to rgb8 ({error}): have the camera send "
            f"one of {known}"
        ) from error
