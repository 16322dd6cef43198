"""Paths that are not recordings but were meant to be: what they are, and what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loger_ros.evaluation.sources.base import IMAGE_ENDINGS, SourceError, images_in, read_yaml
from loger_ros.evaluation.sources.formats import MARK, METRICS, files_in, folders_in, format_of, recordings_in
from loger_ros.evaluation.sources.images import ImageFolder
from loger_ros.evaluation.sources.kitti import FOLDERS

METADATA = "metadata.yaml"
ROS2_ENDINGS = (".mcap", ".db3")
LISTS = {"times.txt": FOLDERS, "rgb.txt": ("rgb",)}  # list → image folders, of KITTI and TUM
MOST_NAMES = 3  # in one message
FEW = 10  # fewer pictures beside recordings are hardly a recording themselves


def refuse_own_output(path: Path, found: Any) -> None:
    """Refuse the folder of a result or of `loger demo`, whose pictures look like a folder of images."""
    if found not in (None, ImageFolder):
        return
    if (path / METRICS).is_file():
        told = path / MARK
        recording = told.read_text(errors="replace").strip() if told.is_file() else "the recording itself"
        raise SourceError(f"{path} is a result of loger eval ({METRICS}), not a recording: give {recording}")
    if found is ImageFolder and has_few(path) and (below := recordings_in(path, folders_in(path))):
        names = ", ".join(str(each) for each in below[:MOST_NAMES])
        raise SourceError(
            f"{path} has few pictures, but recordings below it: give one of those ({names}). If the pictures "
            "are a recording, put them into a folder of their own"
        )


def has_few(path: Path) -> bool:
    return len(images_in(path)) < FEW


def near_miss(path: Path) -> str:
    """Return why no format matches and what to give instead; "" if the path is nothing like a recording."""
    if not path.is_dir():
        meant = path.suffix.lower() in (*IMAGE_ENDINGS, ".yaml", ".txt", ".csv")
        known = path.name == METADATA or format_of(path.parent) is not None
        return f"it is a single file; give its folder {path.parent}" if meant and known else ""
    try:
        if next(path.iterdir(), None) is None:
            return "it is empty"
    except OSError as error:
        return f"it cannot be listed ({error.strerror})"
    return _without_storage(path) or _files_alone(path) or _without_list(path) or _below(path)


def _without_storage(path: Path) -> str:
    try:
        files = read_yaml(path / METADATA)["rosbag2_bagfile_information"]["relative_file_paths"]
        names = ", ".join(map(str, files))
    except (SourceError, KeyError, TypeError):
        return ""
    return f"its {METADATA} names files that are missing ({names}); is the copy complete?"


def _files_alone(path: Path) -> str:
    files = [file for file in files_in(path) if format_of(file) is not None]
    if not files:
        return ""
    names = ", ".join(str(file) for file in files[:MOST_NAMES])
    if files[0].suffix not in ROS2_ENDINGS:
        return f"give the file itself: {names}"
    return (
        f"it has no {METADATA}, which ros2 bag writes at the end: was its recording cut off? Give the file "
        f"itself ({names}), or run `ros2 bag reindex {path}`"
    )


def _without_list(path: Path) -> str:
    for name, folders in LISTS.items():
        there = [folder for folder in folders if (path / folder).is_dir()]
        if there:
            return (
                f"it has {there[0]} but no {name}: is the download complete? To use only its images, give "
                f"{path / there[0]}"
            )
    return ""


def _below(path: Path) -> str:
    below = recordings_in(path, folders_in(path))
    if len(below) > 1:
        names = ", ".join(str(each) for each in below[:MOST_NAMES])
        return f"it contains recordings; give one ({names}) or all (`loger eval --all {path}`)"
    return f"it contains a recording; give {below[0]}" if below else ""
