"""A folder of images, or a video file: frames and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from loger_ros.evaluation.sources.base import (
    MOST_FRAMES,
    RATE,
    Choice,
    ImageFiles,
    SourceError,
    even_stamps,
    images_in,
    quiet_log,
)
from loger_ros.mapping.trajectory_files import stamp_of
from loger_ros.types import Camera, Frame, Trajectory

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
FIRST = 1_000_000_000  # ns
UNITS: dict[str, Callable[[str], int]] = {  # of names that are stamps since 1970, as long as today's
    r"[1-9]\d{18}": int,
    r"[1-9]\d{15}": lambda name: int(name) * 1000,
    r"[1-9]\d{8,9}\.\d+": stamp_of,
}
LONGEST_NUMBER = 10  # digits in the names of images that are merely numbered


class ImageFolder(ImageFiles):
    """Images in the order of their names, numbers by value. Names that are stamps are used as stamps."""

    kind = "image folder"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK) and bool(images_in(path))

    def __init__(self, path: Path, choice: Choice) -> None:
        files = images_in(path)
        problems = quiet_log()
        stamps, other = _stamps_of([file.stem for file in files])
        if stamps is None:
            rate = choice.rate or RATE
            stamps = even_stamps(len(files), rate)
            assumed = f"{rate:g} images per second are assumed, which --rate can change"
            if other is not None:
                text = (
                    f"the name of {files[other]} is not a stamp, unlike most of {path}: {assumed}. Move this "
                    "file away to use the stamps"
                )
                problems.add("names_no_stamps", 0, text)
            elif all(file.stem.isdecimal() and len(file.stem) > LONGEST_NUMBER for file in files):
                text = (
                    f"names such as {files[0].name} are not stamps in nanoseconds (19 digits), microseconds "
                    f"(16) or seconds (10 and a fraction): {assumed}"
                )
                problems.add("names_no_stamps", 0, text)
        elif choice.rate:
            problems.add("rate_unused", 0, f"the names in {path} are stamps, so --rate has no effect")
        order = sorted(range(len(files)), key=stamps.__getitem__)  # fractions may differ in length
        super().__init__(path, [files[i] for i in order], [stamps[i] for i in order], problems=problems)


def _stamps_of(names: list[str]) -> tuple[list[int] | None, int | None]:
    """Return ns if all names are stamps of one unit; if only most are, the index of the first that is not."""
    for pattern, nanoseconds in UNITS.items():
        stamps = [_stamp(name, pattern, nanoseconds) for name in names]
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) == len(names):
            return known, None
        if 2 * len(known) > len(names):
            return None, stamps.index(None)
    return None, None


def _stamp(name: str, pattern: str, nanoseconds: Callable[[str], int]) -> int | None:
    try:
        stamp = nanoseconds(name) if re.fullmatch(pattern, name) else None
    except ValueError:
        return None
    return stamp if stamp is None or stamp < 2**63 else None


class Video:
    kind = "video"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in VIDEO_ENDINGS

    def __init__(self, path: Path, choice: Choice) -> None:
        self.name = path.stem
        self.camera: Camera | None = None
        self.problems = quiet_log()
        self._path = path
        video = self._open()
        self._rate = video.get(cv2.CAP_PROP_FPS)
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
        if choice.rate:
            self._rate = choice.rate
        elif not 0.1 <= self._rate <= 10_000:
            text = (
                f"{path} has no usable frame rate: {RATE:g} per second are assumed, which --rate can change"
            )
            self.problems.add("no_rate", 0, text)
            self._rate = RATE
        self._count = count if 0 < count <= MOST_FRAMES else 0

    def _open(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self._path))
        if not video.isOpened():
            raise SourceError(
                f"{self._path} cannot be opened as a video: convert it, for example with ffmpeg -i"
            )
        return video

    def __len__(self) -> int:
        return self._count

    @property
    def stamps(self) -> Sequence[int]:
        return [FIRST + round(i * 1e9 / self._rate) for i in range(self._count)]

    def frames(self) -> Iterator[Frame]:
        video = self._open()
        number = 0
        try:
            while number < MOST_FRAMES:
                found, image = video.read()
                if not found:
                    break
                yield Frame(FIRST + round(number * 1e9 / self._rate), np.ascontiguousarray(image[..., ::-1]))
                number += 1
        finally:
            video.release()
        if number < self._count:
            counts = f"{self._count} frames, but only {number} could be read"
            message = f"{self._path} announces {counts}: is it complete?"
            self.problems.add("video_ends_early", 0, message)

    def truth(self) -> Trajectory | None:
        return None

    def depth(self, stamp: int) -> np.ndarray | None:
        return None
