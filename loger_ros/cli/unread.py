"""Refuse options that a recording of its kind would ignore."""

from __future__ import annotations

from typing import Any

from loger_ros.evaluation.sources import Choice, SourceError, format_of, named_path
from loger_ros.evaluation.sources.bag import Bag
from loger_ros.evaluation.sources.euroc import Euroc
from loger_ros.evaluation.sources.images import ImageFolder, Video
from loger_ros.evaluation.sources.kitti import KittiOdometry
from loger_ros.evaluation.sources.spires import OxfordSpires
from loger_ros.evaluation.sources.synthetic import Synthetic
from loger_ros.evaluation.sources.vbr import Vbr

READERS: dict[str, tuple[Any, ...]] = {
    "topic": (Bag, Vbr),
    "truth_frame": (Bag,),
    "depth": (Bag,),
    "camera": (Euroc, KittiOdometry, OxfordSpires, Vbr),
    "rate": (ImageFolder, Video),
    "size": (Synthetic,),
}


def refuse_unread(source: str, choice: Choice) -> None:
    path = named_path(source)
    found = format_of(path) if path.exists() else Synthetic if Synthetic.named(source) else None
    if found is None:  # not a recording: opening it will say why
        return
    for name, readers in READERS.items():
        if getattr(choice, name) != getattr(Choice, name) and found not in readers:
            of_which = ", ".join(reader.kind for reader in readers)
            raise SourceError(
                f"--{name.replace('_', '-')} has no effect on {source}, which is of the kind {found.kind}: "
                f"leave it out (it applies to: {of_which})"
            )
