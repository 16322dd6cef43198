"""Sequences of the world as folders that our readers read."""

from __future__ import annotations

from pathlib import Path

from loger_ros.evaluation.export.folders import write_kitti_source, write_tum_source
from loger_ros.evaluation.sources.synthetic import Synthetic
from loger_ros.world import Sequence


def write_tum_folder(sequence: Sequence, folder: Path) -> None:
    write_tum_source(Synthetic(sequence), folder, lambda frames: None)


def write_kitti_folder(sequence: Sequence, folder: Path) -> None:
    write_kitti_source(Synthetic(sequence), folder, lambda frames: None)
