"""A sequence of the named procedural test sets, such as robot_rooms/0, with true poses and depth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from loger_ros.evaluation.sources.base import Choice, SourceError, quiet_log
from loger_ros.types import Camera, Frame, Trajectory
from loger_ros.world.named_sets import NAMED_SETS, named_sequence
from loger_ros.world.sequences import Sequence as WorldSequence

KEPT_DEPTH = 1100  # images whose depth is kept until it is needed: more than the longest chunk
KEPT_PIXELS = 50_000_000


class Synthetic:
    kind = "synthetic"

    @staticmethod
    def named(text: str) -> tuple[str, int] | None:
        """Return the set and number that "robot_rooms/0" names, or None."""
        name, _, number = text.partition("/")
        return (
            (name, int(number or "0")) if name in NAMED_SETS and (not number or number.isdecimal()) else None
        )

    @classmethod
    def of_name(cls, text: str, choice: Choice) -> Synthetic:
        found = cls.named(text)
        if found is None:
            raise SourceError(
                f"{text!r} is not a synthetic sequence: use {', '.join(NAMED_SETS)}, then /NUMBER"
            )
        try:
            return cls(named_sequence(*found, *choice.size), f"{found[0]}_{found[1]}")
        except ValueError as error:
            raise SourceError(str(error)) from error

    def __init__(self, sequence: WorldSequence, name: str = "synthetic") -> None:
        self.name = name
        self.problems = quiet_log()
        self._sequence = sequence
        self.camera: Camera | None = sequence.camera.described()
        if sequence.mount:
            self.camera = replace(self.camera, T_base_camera=sequence.mount.transform())
        self._depth: OrderedDict[int, np.ndarray] = OrderedDict()
        self._kept = min(KEPT_DEPTH, max(KEPT_PIXELS // (self.camera.width * self.camera.height), 1))

    def __len__(self) -> int:
        return len(self._sequence)

    @property
    def stamps(self) -> Sequence[int]:
        return [int(stamp) for stamp in self._sequence.stamps]

    def frames(self) -> Iterator[Frame]:
        for clip in self._sequence.clips():
            for frame, depth in zip(clip.frames(), clip.depth.cpu().numpy(), strict=True):
                self._keep(frame.stamp, depth)
                yield frame

    def truth(self) -> Trajectory | None:
        stamps = tuple(self.stamps)
        return Trajectory(stamps, self._sequence.T_world_camera, (0,) * len(stamps))

    def depth(self, stamp: int) -> np.ndarray | None:
        kept = self._depth.get(stamp)  # another thread renders, and drops old entries
        if kept is not None:
            return kept
        number = int(np.searchsorted(self._sequence.stamps, stamp))
        if number == len(self) or self._sequence.stamps[number] != stamp:
            return None
        depth = self._sequence.render(number, number + 1).depth[0].cpu().numpy()
        self._keep(stamp, depth)
        return depth

    def _keep(self, stamp: int, depth: np.ndarray) -> None:
        self._depth[stamp] = depth
        while len(self._depth) > self._kept:
            self._depth.popitem(last=False)
