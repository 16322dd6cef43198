"""A folder of images, or a video file: frames and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from loger_ros.evaluation.sources.base import (
    MOST_FRAMES,
    Choice,
    ImageFiles,
    SourceError,
    even_stamps,
    images_in,
    quiet_log,
)
from loger_ros.types import Camera, Frame, Trajectory

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
FIRST = 1_000_000_000  # ns


class ImageFolder(ImageFiles):
    """In the order of the names, numbers by value. Names that are stamps in nanoseconds are taken as such."""

    kind = "image folder"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK) and bool(images_in(path))

    def __init__(self, path: Path, choice: Choice) -> None:
        files = images_in(path)
        names = [file.stem for file in files]
        if all(re.fullmatch(r"\d{16,19}", name) for name in names):
            stamps = [int(name) for name in names]
        else:
            stamps = even_stamps(len(files), choice.rate)
        super().__init__(path, files, stamps)


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
        if not 0.1 <= self._rate <= 10_000:
            self.problems.add(
                "no_rate", 0, f"{path} gives no frame rate: {choice.rate:g} per second are assumed"
            )
            self._rate = choice.rate
        self._count = count if 0 < count <= MOST_FRAMES else 0

    def _open(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self._path))
        if not video.isOpened():
            raise SourceError(f"{self._path} cannot be opened as a video: convert it, such as with ffmpeg -i")
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
            message = f"{self._path} announces {self._count} frames, {number} could be read: is it complete?"
            self.problems.add("video_ends_early", 0, message)

    def truth(self) -> Trajectory | None:
        return None

    def depth(self, stamp: int) -> np.ndarray | None:
        return None
