"""Which format a path has, and which recordings are directly below a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loger_ros.evaluation.sources.bag import OTHER_IMAGES, Bag
from loger_ros.evaluation.sources.euroc import Euroc
from loger_ros.evaluation.sources.images import ImageFolder, Video
from loger_ros.evaluation.sources.kitti import KittiOdometry
from loger_ros.evaluation.sources.posed_frames import ScanNet, SensorFrames, SevenScenes
from loger_ros.evaluation.sources.spires import OxfordSpires
from loger_ros.evaluation.sources.tum import TumRgbd
from loger_ros.evaluation.sources.vbr import Vbr

# In the order in which they are tried; a folder of images is what no other format claims.
FORMATS: tuple[Any, ...] = (
    Vbr,
    Bag,
    Euroc,
    KittiOdometry,
    TumRgbd,
    SevenScenes,
    ScanNet,
    SensorFrames,
    OxfordSpires,
    Video,
    ImageFolder,
)
# Files in a folder of results, whose pictures are not a recording; the second one names the recording.
METRICS, MARK = "metrics.json", "source.txt"


def format_of(path: Path) -> Any:
    return next((kind for kind in FORMATS if kind.matches(path)), None)


def recordings_in(here: Path, folders: Iterable[str]) -> list[Path]:
    """Return one recording per folder: itself or a file in it. Folders of depth or masks are left out."""
    found = []
    for name in sorted(folders):
        if name.startswith(".") or any(word in name.lower() for word in OTHER_IMAGES):
            continue
        if (here / name / METRICS).exists():
            continue
        paths = (here / name, *files_in(here / name))
        found += [path for path in paths if format_of(path) is not None][:1]
    return found


def files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def folders_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
