"""What every recording offers, and how its files are read.

A reader is a small class with ``name``, ``kind``, ``camera``, ``problems``, ``__len__``, ``stamps``,
``frames``, ``truth`` and ``depth``. What cannot be read is left out and reported in ``problems``; the rest
is still provided.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError

from loger_ros.config import yaml_problem
from loger_ros.events import EventLog
from loger_ros.types import Camera, Frame, Trajectory

MOST_FRAMES = 5_000_000  # of one recording
MOST_PIXELS = 80_000_000  # of one image
MOST_TEXT = 1 << 30  # bytes of a list or table
MOST_SETTINGS = 1 << 20  # bytes of a calibration file
FIRST_IMAGES = 3  # checked for how many bits they use
FEWEST_BITS = 13  # of 16; if fewer are used, the upper 8 have few levels of grey
READERS = min(4, os.cpu_count() or 1)  # files decoded at once
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp")


class SourceError(ValueError):
    """A recording that cannot be used; the message says why and what to do."""


ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
METHODS: Any = getattr(Image, "Transpose", Image)  # Pillow 9.0 has them in the module itself
TURNS = {  # what turns images of each orientation upright
    2: METHODS.FLIP_LEFT_RIGHT,
    3: METHODS.ROTATE_180,
    4: METHODS.FLIP_TOP_BOTTOM,
    5: METHODS.TRANSPOSE,
    6: METHODS.ROTATE_270,
    7: METHODS.TRANSVERSE,
    8: METHODS.ROTATE_90,
}
RATE = 10.0  # frames per second if nothing says when images were taken


@dataclass(frozen=True)
class Choice:
    """What to use of a recording. Formats ignore the fields that do not concern them."""

    topic: str = ""  # of the images in a bag; "": guessed
    truth: str = ""  # a topic of a bag, or a TUM or KITTI file; "": as the format has it
    truth_frame: str = ""  # body that the true poses describe; "": as the bag says; in a file, the camera
    depth: str = ""  # a topic of true depth in a bag; "": none
    camera: str = ""  # folder or name of a camera; "": the first one
    camera_info: str = ""  # file of its calibration; "": as the format has it
    camera_xyz: tuple[float, ...] = ()  # metres, its position on the base; (): as the recording has it
    camera_rpy: tuple[float, ...] = ()  # radians, its rotation there; pitch down is positive
    size: tuple[int, int] = (224, 168)  # of a synthetic sequence
    rate: float = 0.0  # frames per second of images without stamps; 0: a video's own, else RATE


class Source(Protocol):
    name: str
    kind: str
    camera: Camera | None
    problems: EventLog

    def __len__(self) -> int:
        """Return the number of images announced; some may turn out to be unreadable."""

    @property
    def stamps(self) -> Sequence[int]:
        """Nanoseconds, in the order of ``frames``. For a bag, this reads all of it."""

    def frames(self) -> Iterator[Frame]: ...

    def truth(self) -> Trajectory | None:
        """Return the true poses of the camera, T_world_camera, at stamps of their own."""

    def depth(self, stamp: int) -> np.ndarray | None:
        """Return (H, W) metres along the optical axis for an image; not finite or 0 means unknown."""


def quiet_log() -> EventLog:
    return EventLog(logging.getLogger("loger_ros.evaluation").warning)


class ImageFiles:
    """The reader of formats that keep one file per image."""

    kind = "images"

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        stamps: Sequence[int],
        *,
        camera: Camera | None = None,
        truth: Trajectory | None = None,
        depth_files: dict[int, Path] | None = None,
        depth_scale: float = 1000.0,  # steps per metre
        depth_unknown: int = 0,
        problems: EventLog | None = None,
    ) -> None:
        self.name = path.name
        self.camera = camera
        self.problems = problems or quiet_log()
        if not files:
            raise SourceError(f"{path} has no images: is the download complete?")
        if len(files) > MOST_FRAMES:
            raise SourceError(f"{path} has {len(files)} images, more than the limit of {MOST_FRAMES}")
        count = min(len(files), len(stamps))
        if len(files) != len(stamps):
            message = f"{len(files)} images but {len(stamps)} stamps: the first {count} of both are used"
            self.problems.add("lengths_differ", 0, message)
        order = sorted(range(count), key=lambda i: stamps[i])
        if order != list(range(count)):
            self.problems.add(
                "unsorted_stamps", 0, f"the stamps of {path} are not in order: images are sorted by stamp"
            )
        self._files = [files[i] for i in order]
        self._stamps = tuple(int(stamps[i]) for i in order)
        self._truth = truth
        self._depth_files = depth_files or {}
        self._depth_scale, self._depth_unknown = depth_scale, depth_unknown

    def __len__(self) -> int:
        return len(self._files)

    @property
    def files(self) -> Sequence[Path]:
        """The files of the images."""
        return self._files

    @property
    def stamps(self) -> Sequence[int]:
        return self._stamps

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order; several files are decoded at once."""
        self._report_unused_bits()
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        pool = ThreadPoolExecutor(READERS)
        try:
            for stamp, file in zip(self._stamps, self._files, strict=True):
                waiting.append((stamp, pool.submit(read_image, file)))
                if len(waiting) > 2 * READERS:
                    yield from self._decoded(*waiting.popleft())
            while waiting:
                yield from self._decoded(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _report_unused_bits(self) -> None:
        highest = 0
        for file in self._files[:FIRST_IMAGES]:
            levels = _grey_levels(file)
            if levels is None:
                return
            highest = max(highest, int(levels.max(initial=0)))
        bits = highest.bit_length()
        if 0 < bits < FEWEST_BITS and "unused_bits" not in self.problems.counts:
            text = (
                f"{self._files[0]} and the next ones have 16 bits but use only {bits}: their upper 8 are "
                f"read, so they are dark. Multiply their values by {1 << (16 - bits)}, or store 8 bits"
            )
            self.problems.add("unused_bits", self._stamps[0], text)

    def _decoded(self, stamp: int, image: Future[np.ndarray]) -> Iterator[Frame]:
        try:
            yield Frame(stamp, image.result())
        except SourceError as error:
            self.problems.add("unreadable_image", stamp, f"{error}; the frame is left out")

    def truth(self) -> Trajectory | None:
        return self._truth

    def depth(self, stamp: int) -> np.ndarray | None:
        file = self._depth_files.get(stamp)
        if file is None:
            return None
        try:
            steps = read_levels(file)
        except SourceError as error:
            self.problems.add("unreadable_depth", stamp, f"{error}; the frame has no true depth")
            return None
        metres = steps.astype(np.float32) / self._depth_scale
        metres[(steps == 0) | (steps == self._depth_unknown)] = np.nan
        return metres


def read_image(file: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB; grey becomes RGB, 16 bits become 8."""
    with _opened(file) as image:
        if image.mode == "F":
            raise SourceError(
                f"{file} has fractions, and nothing says which value is white: store 8 or 16 bits"
            )
        if not _is_deep(image):
            return np.asarray(_upright(image).convert("RGB"))
        levels = np.asarray(image)
        if levels.min(initial=0) < 0 or levels.max(initial=0) >= 1 << 16:
            raise SourceError(
                f"{file} has values from {levels.min()} to {levels.max()}, which do not fit into 16 bits: "
                "store 8 or 16 bits"
            )
        grey = (levels.astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as viewers and OpenCV show it: phones store how they were held beside the pixels.

    ImageOps.exif_transpose also writes the other tags anew, and fails if one of them is damaged.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged note is no reason to lose the image
        return image
    return image if turn is None else image.transpose(turn)


def _is_deep(image: Image.Image) -> bool:
    """Whether the image is grey with over 8 bits; older versions of Pillow use mode I for 16 bits, too."""
    return image.mode.startswith("I;16") or image.mode == "I"


def _grey_levels(file: Path) -> np.ndarray | None:
    """Return the values of a grey image with more than 8 bits; None for others and for unreadable files."""
    try:
        with _opened(file) as image:
            return np.asarray(image) if _is_deep(image) else None
    except SourceError:
        return None


def read_levels(file: Path) -> np.ndarray:
    """Return the (H, W) integers of a depth image."""
    with _opened(file) as image:
        levels = np.asarray(image)
    if levels.ndim != 2:
        raise SourceError(f"{file} has {levels.ndim} axes; a depth image has one value per pixel")
    return levels


class _opened:
    """A Pillow image of limited size; whatever is wrong with a file becomes a SourceError."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Image.Image:
        try:
            self._image = Image.open(self._file)
            width, height = self._image.size
            if width * height > MOST_PIXELS:
                raise SourceError(f"{self._file} has {width}x{height} pixels, more than {MOST_PIXELS}")
            self._image.load()
        except SourceError:
            raise
        except FileNotFoundError as error:
            raise SourceError(f"{self._file} is missing") from error
        except (
            OSError,
            UnidentifiedImageError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise SourceError(f"{self._file} cannot be read as an image ({error})") from error
        return self._image

    def __exit__(self, *error: object) -> None:
        self._image.close()


def images_in(folder: Path) -> list[Path]:
    """Return the image files sorted by name, with numbers in names sorted by value."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS]
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed: {error.strerror}") from error
    return sorted(files, key=lambda file: natural(file.name))


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts "frame10.png" after "frame9.png"."""
    parts: list[tuple[int, str]] = []
    text = ""
    for letter in name:
        if letter.isdecimal() != text.isdecimal() and text:
            parts.append((int(text) if text.isdecimal() else -1, text))
            text = ""
        text += letter
    return [*parts, (int(text) if text.isdecimal() else -1, text)]


def paired_by_number(
    files: Sequence[Path], stamps: Sequence[int], problems: EventLog
) -> tuple[Sequence[Path], Sequence[int]]:
    """Pair files that are numbered from 0 with the stamps of their numbers, and others in order.

    So a missing file does not shift the later ones.
    """
    numbers = [int(file.stem) for file in files if file.stem.isdecimal()]
    known = set(numbers)
    if len(known) < len(files) or max(numbers, default=0) >= len(stamps):
        return files, stamps
    if files and len(files) < len(stamps):
        first = next(i for i in range(len(stamps)) if i not in known)
        text = f"{len(stamps) - len(files)} of {len(stamps)} images are missing, the first is number {first}"
        problems.add("images_missing", 0, f"{text}: the others keep the stamps of their numbers")
    return files, [stamps[number] for number in numbers]


def even_stamps(count: int, rate: float) -> list[int]:
    """Return stamps in ns from 1 s on, since a stamp of 0 means "no time" in ROS."""
    return [1_000_000_000 + round(i * 1e9 / rate) for i in range(count)]


def read_text(file: Path, most: int = MOST_TEXT) -> str:
    try:
        if file.stat().st_size > most:
            raise SourceError(f"{file} has more bytes than the limit of {most}")
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error


def read_rows(file: Path, columns: int) -> list[list[str]]:
    """Return the words, separated by commas or blanks, of every line that is not a comment."""
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < columns:
            raise SourceError(
                f"{file}, line {number} has {len(words)} columns instead of {columns}: {line[:80]!r}"
            )
        rows.append(words)
    return rows


def read_yaml(file: Path) -> dict:
    text = read_text(file, MOST_SETTINGS)
    if text.startswith("%YAML:"):  # OpenCV's dialect
        text = text.partition("\n")[2]
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SourceError(f"{file} cannot be read as YAML: {yaml_problem(error)}") from error
    if not isinstance(values, dict):
        raise SourceError(f"{file} has no settings of the form NAME: VALUE")
    return values


def matrix_of(values: object, file: Path, name: str) -> np.ndarray:
    """A 4x4 transform, given as 16 numbers in any nesting, also as {rows, cols, data}."""
    if isinstance(values, dict):
        values = values.get("data")
    try:
        matrix = np.array(values, dtype=float).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{file}: {name} is not a 4x4 matrix") from error
    if not np.isfinite(matrix).all():
        raise SourceError(f"{file}: {name} has numbers that are not finite")
    return matrix


def pinhole(
    width: int,
    height: int,
    numbers: Sequence[float],
    distortion: Sequence[float] = (),
    model: str = "plumb_bob",
) -> Camera:
    """numbers: fx, fy, cx, cy."""
    fx, fy, cx, cy = (float(number) for number in numbers)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(width, height, matrix, tuple(float(number) for number in distortion), model)


def image_size(file: Path) -> tuple[int, int]:
    """Return (width, height), reading only the head of the file."""
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"{file} cannot be read as an image ({error})") from error
