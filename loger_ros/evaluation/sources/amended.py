"""A recording whose truth or camera comes from separate files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from loger_ros.evaluation.sources.bag import Bag
from loger_ros.evaluation.sources.base import MOST_SETTINGS, Source, SourceError
from loger_ros.mapping.trajectory_files import read_kitti, read_tum
from loger_ros.types import Camera, Frame, Trajectory


class Amended:
    """The same recording with another truth and, if given, another camera; the rest is passed through."""

    def __init__(
        self, source: Source, truth: Trajectory | None, camera: Camera | None = None, kind: str = ""
    ) -> None:
        self._source, self._truth = source, truth
        self.name, self.kind = source.name, kind or source.kind
        self.camera, self.problems = camera or source.camera, source.problems

    def __len__(self) -> int:
        return len(self._source)

    @property
    def stamps(self) -> Sequence[int]:
        return self._source.stamps

    def frames(self) -> Iterator[Frame]:
        return self._source.frames()

    def truth(self) -> Trajectory | None:
        return self._truth

    def depth(self, stamp: int) -> np.ndarray | None:
        return self._source.depth(stamp)


def with_truth(source: Source, file: Path, body: str = "") -> Amended:
    """Return the recording with the truth from a TUM file, or from a KITTI file with one line per image.

    body: the frame that the poses describe, if it is not the camera.
    """
    truth = read_truth(file, source)
    if not body:
        return Amended(source, truth)
    if not isinstance(source, Bag):
        raise SourceError(
            f"{source.name} is not a bag, so no /tf_static leads from {body} to the camera: convert the "
            f"poses of {file} to the camera yourself and leave --truth-frame out"
        )
    T_body_camera = source.mount_on(body, str(file))
    return Amended(source, replace(truth, T_map_camera=truth.T_map_camera @ T_body_camera))


def read_truth(file: Path, source: Source) -> Trajectory:
    try:
        if _columns(file) != 12:
            truth = read_tum(file, source.problems)
            if not len(truth):
                raise ValueError(f"{file} has no poses")
            return truth
        poses = read_kitti(file)
    except (ValueError, OSError) as error:
        raise SourceError(f"the truth cannot be read: {error}") from error
    stamps = tuple(source.stamps)
    if len(poses) != len(stamps):
        raise SourceError(
            f"{file} has {len(poses)} poses without stamps, but the recording has {len(stamps)} images: one "
            "pose per image is needed"
        )
    return Trajectory(stamps, poses, (0,) * len(stamps))


def _columns(file: Path) -> int:
    """Return the number of columns in the first line that is not a comment."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for _ in range(1000):
            words = lines.readline(MOST_SETTINGS).replace(",", " ").split()
            if words and not words[0].startswith("#"):
                return len(words)
    return 0
