"""The checkpoints known by name, and the folders that are searched for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HUB = "https://huggingface.co/Junyi42/LoGeR/resolve/main"


@dataclass(frozen=True)
class Published:
    """Weights that others publish; we neither ship nor mirror them."""

    title: str
    file: str  # on the hub, and below the checkpoint folder of the publishers' instructions
    stream: Mapping[str, Any] = field(default_factory=dict)  # the settings with which its publishers run it

    @property
    def url(self) -> str:
        return f"{_HUB}/{self.file}"


PUBLISHED = {
    "loger": Published("LoGeR", "LoGeR/latest.pt"),
    "loger_star": Published("LoGeR*", "LoGeR_star/latest.pt", {"alignment": "se3"}),
}
PACKAGED = ("tiny",)  # come with this package, in PACKAGE_FOLDER
NAMES = (*PUBLISHED, *PACKAGED)
PACKAGE_FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"


def checkpoint_folders() -> list[Path]:
    """In order: $LOGER_CHECKPOINTS if it is set, what came with the package, the user's cache."""
    chosen = os.environ.get("LOGER_CHECKPOINTS")
    cache = cache_folder()
    return [
        *([Path(os.path.expanduser(chosen))] if chosen else []),
        PACKAGE_FOLDER,
        *([cache] if cache else []),
    ]


def cache_folder() -> Path | None:
    """None for a user without a home directory, as in services and containers."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return Path(base) / "loger_ros" / "checkpoints" if os.path.isabs(base) else None


def find_checkpoint(name: str) -> Path | None:
    """The first of NAME.safetensors, NAME.pt and the published layout in the folders above."""
    if name not in NAMES:
        raise ValueError(f"no checkpoint is called {name!r}; known names: {', '.join(NAMES)}")
    files = [f"{name}.safetensors", f"{name}.pt", *([PUBLISHED[name].file] if name in PUBLISHED else [])]
    return next(
        (folder / file for folder in checkpoint_folders() for file in files if (folder / file).is_file()),
        None,
    )
