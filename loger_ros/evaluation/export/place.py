"""Make the folder or file of an export without overwriting anything that exists."""

from __future__ import annotations

from pathlib import Path

from loger_ros.files import refuse_filled


def new_folder(folder: Path) -> Path:
    refuse_filled(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_file(file: Path) -> Path:
    if file.exists():
        raise ValueError(f"{file} already exists: choose another name, or remove it first")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
