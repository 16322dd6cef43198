"""Recordings of every supported format, which is recognised from the path."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loger_ros.evaluation.sources.amended import with_truth
from loger_ros.evaluation.sources.bag import Bag
from loger_ros.evaluation.sources.base import Choice, Source, SourceError
from loger_ros.evaluation.sources.formats import FORMATS, METRICS, format_of, recordings_in
from loger_ros.evaluation.sources.images import ImageFolder
from loger_ros.evaluation.sources.near_misses import has_few, near_miss, refuse_own_output
from loger_ros.evaluation.sources.own_camera import own_camera
from loger_ros.evaluation.sources.synthetic import Synthetic
from loger_ros.world.named_sets import NAMED_SETS

MOST_FOLDERS = 100_000  # searched below one folder

__all__ = ["Choice", "Source", "SourceError", "find_sources", "format_of", "named_path", "open_source"]


def open_source(text: str | Path, choice: Choice | None = None) -> Source:
    """The recording at a path, or the synthetic sequence of that name."""
    choice = choice or Choice()
    file = Path(choice.truth) if choice.truth and Path(choice.truth).is_file() else None
    source = _opened(text, replace(choice, truth="", truth_frame="") if file else choice)
    source.camera = own_camera(source.camera, choice)
    return with_truth(source, file, choice.truth_frame) if file else source


def _opened(text: str | Path, choice: Choice) -> Source:
    path = named_path(text)
    if not path.exists():
        if Synthetic.named(str(text)):
            _refuse_topic(choice, text)
            return Synthetic.of_name(str(text), choice)
        sets = ", ".join(NAMED_SETS)
        raise SourceError(f"{text} does not exist; synthetic sequences are {sets}, each followed by /NUMBER")
    found = format_of(path)
    refuse_own_output(path, found)
    if found is None:
        names = ", ".join(kind.kind for kind in FORMATS)
        why = near_miss(path) or f"expected {names}, or the name of a synthetic sequence"
        raise SourceError(f"{path} is not a recording in a known format: {why}")
    if found is not Bag:
        _refuse_topic(choice, path)
    return found(path, choice)


def _refuse_topic(choice: Choice, path: str | Path) -> None:
    if choice.truth:
        raise SourceError(
            f"the truth {choice.truth} is not a file, and {path} is not a bag that could have such a topic"
        )


def named_path(text: str | Path) -> Path:
    """Return the path as written, except that "." and ".." are replaced by the folders they stand for."""
    path = Path(text)
    return path.resolve() if path.name in ("", "..") else path


def find_sources(folder: Path) -> Iterator[Path]:
    """Yield the recordings at or below a folder, sorted by name. A recording itself is not searched.

    Links are followed. Each folder is searched once, under its own name rather than that of a link to it.
    """
    looked_at: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        if len(looked_at) >= MOST_FOLDERS:
            raise SourceError(f"{folder} has more than {MOST_FOLDERS} folders: choose a smaller one")
        if METRICS in files or here.resolve() in looked_at:
            folders.clear()
            continue
        looked_at.add(here.resolve())
        found = format_of(here)
        if found is ImageFolder and (below := recordings_in(here, folders)):
            alone = "" if has_few(here) else f"; `loger eval {here}` evaluates only those images"
            logging.getLogger(__name__).warning(
                f"the images directly in {here} are ignored, because there are recordings in folders "
                f"below it ({', '.join(path.relative_to(here).parts[0] for path in below)}){alone}"
            )
        elif found is not None:
            folders.clear()
            yield here
            continue
        seen = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(seen, key=lambda name: (os.path.islink(here / name), name))
        for name in sorted(files):
            if format_of(here / name) is not None:
                yield here / name
