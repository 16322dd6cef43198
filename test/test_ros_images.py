"""Every encoding against pixels that are known beforehand."""

from __future__ import annotations

import array
import io
import itertools
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from loger_ros.ros.images import LAYOUTS, ImageError, rgb_of, rgb_of_compressed
from loger_ros.ros.raw_images import RawImage, image_of

MOST = 10_000
HEIGHT, WIDTH = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]
BAYER_COLOUR = np.array([200, 90, 30], np.uint8)  # a plain wall, which demosaicing must give back


def message(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """pixels (H, W) or (H, W, C) of uint8 or uint16."""
    height, width = pixels.shape[:2]
    kind = np.dtype("u1" if pixels.itemsize == 1 else ">u2" if big_endian else "<u2")
    rows = np.ascontiguousarray(pixels.astype(kind)).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    result = Image(height=height, width=width, encoding=encoding, step=padded.shape[1])
    result.is_bigendian = int(big_endian)
    result.data = array.array("B", padded.tobytes())
    return result


def wide(pixels: np.ndarray) -> np.ndarray:
    """8 bits as 16, with low bits that must not matter."""
    return pixels.astype(np.uint16) << 8 | 0x5A


def alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 9)], -1)


def mosaic(pattern: str) -> np.ndarray:
    tile = np.array(["rgb".index(colour) for colour in pattern]).reshape(2, 2)
    return BAYER_COLOUR[np.tile(tile, (HEIGHT // 2, WIDTH // 2))]


PLAIN = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "8UC3": RGB[..., ::-1],
    "rgba8": alpha(RGB),
    "bgra8": alpha(RGB[..., ::-1]),
    "8UC4": alpha(RGB[..., ::-1]),
    "rgb16": wide(RGB),
    "bgr16": wide(RGB[..., ::-1]),
    "rgba16": wide(alpha(RGB)),
    "bgra16": wide(alpha(RGB[..., ::-1])),
}
GREYS = {"mono8": GREY, "8UC1": GREY, "mono16": wide(GREY)}
BAYER = [f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
YUV = ("uyvy", "yuv422", "yuyv", "yuv422_yuy2")


def test_these_tests_know_every_encoding() -> None:
    assert set(LAYOUTS) == {*PLAIN, *GREYS, *BAYER, *YUV}


@pytest.mark.parametrize(("padding", "big_endian"), [*itertools.product((0, 6), (False, True))])
@pytest.mark.parametrize("encoding", [*PLAIN, *GREYS])
def test_colours_and_greys(encoding: str, padding: int, big_endian: bool) -> None:
    pixels = PLAIN.get(encoding, GREYS.get(encoding))
    wanted = RGB if encoding in PLAIN else np.stack([GREY] * 3, -1)
    read = rgb_of(message(pixels, encoding, padding, big_endian), MOST)
    assert read.dtype == np.uint8
    assert np.array_equal(read, wanted)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", BAYER)
def test_bayer_patterns(encoding: str, padding: int) -> None:
    pixels = mosaic(encoding[6:10])
    read = rgb_of(message(wide(pixels) if encoding.endswith("16") else pixels, encoding, padding), MOST)
    assert np.array_equal(read[1:-1, 1:-1], np.broadcast_to(BAYER_COLOUR, (HEIGHT - 2, WIDTH - 2, 3)))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", YUV)
def test_yuv_with_halved_colours(encoding: str, padding: int) -> None:
    red = (81, 90, 240)  # Y, U, V of pure red by BT.601
    y, u, v = red
    pair = (u, y, v, y) if encoding in ("uyvy", "yuv422") else (y, u, y, v)
    pixels = np.tile(np.array(pair, np.uint8), HEIGHT * WIDTH // 2).reshape(HEIGHT, WIDTH, 2)
    pixels[0, :, (1 if pair[0] == u else 0)] = 16  # a black row: brightness belongs to single pixels
    read = rgb_of(message(pixels, encoding, padding), MOST).astype(int)
    assert np.abs(read[1:] - (254, 0, 0)).max() <= 2
    assert read[0].max() < 190
    assert read[0, :, 1:].max() == 0


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["rgb8", "rgba8"])
def test_what_is_rgb_already_is_not_copied(encoding: str, padding: int) -> None:
    said = message(PLAIN[encoding], encoding, padding)
    assert np.shares_memory(rgb_of(said, MOST), np.frombuffer(said.data, np.uint8))


def test_a_last_row_without_padding_is_enough() -> None:
    said = message(RGB, "rgb8", padding=6)
    said.data = said.data[:-6]
    assert np.array_equal(rgb_of(said, MOST), RGB)


def broken(**changes: object) -> Image:
    said = message(RGB, "rgb8")
    for name, value in changes.items():
        setattr(said, name, value)
    return said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (broken(data=array.array("B", bytes(10))), "takes 144 bytes, but it has 10"),
        (broken(step=5), "5 bytes per row"),
        (broken(step=0), "0 bytes per row"),
        (broken(width=0), "is empty"),
        (broken(height=0), "is empty"),
        (broken(width=2**31, height=2**31, step=2**32 - 1), "input.max_pixels"),
        (broken(height=2000), "input.max_pixels"),
        (broken(encoding="32FC1"), "install ros-<distribution>-cv-bridge"),
        (broken(encoding=""), "or have the camera send one of rgb8"),
        (message(np.zeros((2, 3, 2), np.uint8), "yuyv"), "two pixels share a colour"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_cure(said: Image, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        rgb_of(said, MOST)


def test_what_we_do_not_know_is_left_to_cv_bridge_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ROS is not on every machine of tests; its one function that we call is."""

    class CvBridge:
        def imgmsg_to_cv2(self, message: Image, encoding: str) -> np.ndarray:
            assert encoding == "rgb8"
            if message.encoding != "16SC3":
                raise RuntimeError("[16SC9] is not a color format")
            return RGB

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))
    assert np.array_equal(rgb_of(broken(encoding="16SC3"), MOST), RGB)
    with pytest.raises(ImageError, match=r"encoding '16SC9' to rgb8 \(\[16SC9\] is not a color.*one of rgb8"):
        rgb_of(broken(encoding="16SC9"), MOST)
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError, match="which cannot be imported"):
        rgb_of(broken(encoding="16SC3"), MOST)


def compressed(kind: str, picture: np.ndarray = RGB, **options: object) -> CompressedImage:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, kind, **options)
    return CompressedImage(format=kind.lower(), data=array.array("B", file.getvalue()))


def test_png_and_jpeg() -> None:
    assert np.array_equal(rgb_of_compressed(compressed("PNG"), MOST), RGB)
    assert np.array_equal(rgb_of_compressed(compressed("PNG", GREY), MOST), np.stack([GREY] * 3, -1))
    smooth = cv2.resize(RGB[:2, :2], (WIDTH, HEIGHT))
    read = rgb_of_compressed(compressed("JPEG", smooth, quality=100, subsampling=0), MOST)
    assert np.abs(read.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (compressed("GIF"), "neither JPEG nor PNG"),
        (CompressedImage(format="jpeg"), "neither JPEG nor PNG"),
        (CompressedImage(format="png", data=compressed("PNG").data[:60]), "damaged"),
        (compressed("PNG", np.zeros((200, 200), np.uint8)), "input.max_pixels"),
    ],
)
def test_compressed_images_that_cannot_be_read_are_refused(said: CompressedImage, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        rgb_of_compressed(said, MOST)


SOFT = cv2.resize(np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8), (80, 60))


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9", bytes(100)], ids=["cut", "marked", "filled"])
@pytest.mark.parametrize("share", [0.7, 0.85, 0.97])
def test_a_jpeg_that_ends_early_is_refused(share: float, ending: bytes) -> None:
    data = compressed("JPEG", SOFT).data.tobytes()
    cut = data[: int(share * len(data))] + ending
    with pytest.raises(ImageError, match=r"damaged|part of its 80x60 pixels is missing"):
        rgb_of_compressed(CompressedImage(format="jpeg", data=array.array("B", cut)), MOST)


@pytest.mark.parametrize("picture", [SOFT, np.full((60, 80, 3), 128, np.uint8)], ids=["soft", "grey"])
@pytest.mark.parametrize("behind", [b"", bytes(100), b"from the driver"], ids=["bare", "zeros", "words"])
def test_a_whole_jpeg_is_read_whatever_it_shows_and_whatever_follows(
    picture: np.ndarray, behind: bytes
) -> None:
    data = compressed("JPEG", picture, quality=95).data.tobytes() + behind
    read = rgb_of_compressed(CompressedImage(format="jpeg", data=array.array("B", data)), MOST)
    assert np.abs(read.astype(int) - picture).mean() < 3


def test_a_huge_announcement_decodes_nothing() -> None:
    """A few bytes that claim to be 100,000 x 100,000 pixels."""
    data = bytearray(compressed("PNG").data.tobytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match=r"max_pixels|neither"):
        rgb_of_compressed(CompressedImage(format="png", data=array.array("B", bytes(data))), 50_000_000)


# ---- as DDS delivers them ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "bayer_grbg8", "bgra8", "yuv422", "mono16"])
@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "camera_optical_frame", "kamera_ä"])
def test_an_image_is_read_where_it_lies(frame: str, encoding: str) -> None:
    said = message(RGB, encoding, padding=3, big_endian=True)
    said.header.frame_id, said.header.stamp.sec, said.header.stamp.nanosec = frame, -7, 999_999_999
    received = serialize_message(said)
    read = image_of(received)
    assert isinstance(read, RawImage)
    for name in ("height", "width", "encoding", "is_bigendian", "step"):
        assert getattr(read, name) == getattr(said, name)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (-7, 999_999_999)
    assert read.header.frame_id == frame
    assert bytes(read.data) == said.data.tobytes()
    assert np.shares_memory(np.frombuffer(read.data, np.uint8), np.frombuffer(received, np.uint8))


@pytest.mark.parametrize("encoding", [*PLAIN, *GREYS, *BAYER])
def test_what_lies_there_is_converted_alike(encoding: str) -> None:
    pixels = PLAIN.get(encoding, GREYS.get(encoding))
    if pixels is None:
        pixels = wide(mosaic(encoding[6:10])) if encoding.endswith("16") else mosaic(encoding[6:10])
    said = message(pixels, encoding, padding=2)
    assert np.array_equal(rgb_of(image_of(serialize_message(said)), MOST), rgb_of(said, MOST))


def test_what_we_do_not_know_is_left_to_rclpy() -> None:
    strange = message(RGB, "rgb8")
    strange.encoding = "jpeg2000"
    assert isinstance(image_of(serialize_message(strange)), Image)
    received = serialize_message(message(RGB, "rgb8"))
    for cut in (0, 3, 10, 30, len(received) - 1):
        with pytest.raises(Exception):  # noqa: B017, PT011 (rclpy's own kind, which differs)
            image_of(received[:cut])
