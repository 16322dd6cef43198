"""What can go wrong between a camera and a program: drops, late images, duplicate stamps, pauses."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Nuisances:
    """All off by default. Chances are per frame; ``*_every`` is in seconds, 0: never."""

    drop: float = 0.0  # chance that a frame is not published
    late: float = 0.0  # chance that a frame comes late, after newer ones
    late_by: float = 0.3  # seconds
    duplicate: float = 0.0  # chance that a frame carries the stamp of the one before
    pause_every: float = 0.0
    pause_for: float = 1.0  # seconds without images
    resize_every: float = 0.0  # the images change between full and half size
    jump_every: float = 0.0  # the clock of the stamps jumps
    jump_by: float = -2.0  # seconds, and back again at the next jump

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in ("drop", "late", "duplicate") and not 0 <= value <= 1:
                raise ValueError(f"{entry.name} is a chance between 0 and 1, got {value}")
            if entry.name != "jump_by" and value < 0:
                raise ValueError(f"{entry.name} must not be negative, got {value}")


@dataclass(frozen=True)
class Fate:
    """What happens to one frame."""

    stamp: int  # nanoseconds
    published: bool
    delay: float  # seconds
    half_size: bool


class Troublemaker:
    """Decides frame by frame; the same seed decides the same."""

    def __init__(self, nuisances: Nuisances, seed: int) -> None:
        self._nuisances = nuisances
        self._rng = np.random.default_rng(seed)
        self._before: int | None = None

    def judge(self, elapsed: float, stamp: int) -> Fate:
        """``elapsed``: seconds since the stream began."""
        n = self._nuisances
        drop, late, duplicate = self._rng.random(3) < (n.drop, n.late, n.duplicate)
        if n.jump_every and int(elapsed / n.jump_every) % 2:
            stamp += round(n.jump_by * 1e9)
        if duplicate and self._before is not None:
            stamp = self._before
        self._before = stamp
        pausing = n.pause_every > 0 and elapsed % (n.pause_every + n.pause_for) >= n.pause_every
        halved = n.resize_every > 0 and int(elapsed / n.resize_every) % 2 == 1
        return Fate(stamp, not (drop or pausing), n.late_by if late else 0.0, halved)
