"""Where an export goes: nothing that exists is overwritten."""

from __future__ import annotations

from pathlib import Path


def new_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: choose a new folder, or remove its contents first")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_file(file: Path) -> Path:
    if file.exists():
        raise ValueError(f"{file} exists: choose a new name, or remove it first")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
