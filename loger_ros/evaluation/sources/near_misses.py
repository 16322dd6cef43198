"""What is no recording but was meant to be one: what it is, and what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loger_ros.evaluation.sources.base import SourceError, images_in
from loger_ros.evaluation.sources.formats import REPORT, folders_in, recordings_in
from loger_ros.evaluation.sources.images import ImageFolder

MARK = "source.txt"  # names the recording of a result
FEW = 10  # pictures beside recordings are hardly one themselves


def refuse_own_output(path: Path, found: Any) -> None:
    """The folder of a result or of `loger demo`, whose pictures look like a folder of images."""
    if found not in (None, ImageFolder):
        return
    if (path / REPORT).is_file():
        told = path / MARK
        recording = told.read_text(errors="replace").strip() if told.is_file() else "the recording itself"
        raise SourceError(f"{path} is a result of loger eval ({REPORT}) and no recording: give {recording}")
    if found is ImageFolder and is_beside_recordings(path):
        below = ", ".join(str(each) for each in recordings_in(path, folders_in(path)))
        raise SourceError(
            f"{path} has few pictures and recordings below it: give one of those ({below}). Pictures that "
            "are a recording go into a folder of their own"
        )


def is_beside_recordings(path: Path) -> bool:
    return len(images_in(path)) < FEW and bool(recordings_in(path, folders_in(path)))
