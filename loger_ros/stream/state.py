"""Everything that changes while a stream runs, in one place, so that a snapshot is a copy of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from loger_ros.stream.align import HOME, Placement
from loger_ros.stream.chunks import Chunker
from loger_ros.stream.continuity import Continuity
from loger_ros.stream.covariance import Uncertainty
from loger_ros.stream.prepare import Preparation
from loger_ros.stream.results import Part
from loger_ros.types import PosedFrame, Update


@dataclass(frozen=True, eq=False)
class Prepared:
    stamp: int  # nanoseconds
    image: Tensor  # (H, W, 3) uint8 on the CPU
    turn: np.ndarray | None = None  # (3, 3) R_view_camera, if the image was rotated
    T_base_view: np.ndarray | None = None  # (4, 4) where the camera of the image sits on a vehicle, if known
    features: Any = None  # of this one frame, on the model's device


@dataclass
class State:
    """Members are replaced or copied, never modified in place."""

    prepare: Preparation  # for the camera of the newest image
    chunker: Chunker[Prepared]
    continuity: Continuity
    memory: Any
    uncertainty: Uncertainty
    segment: int = 0
    size: tuple[int, int] | None = None  # (width, height) of network images
    shape: tuple[int, ...] = ()  # of the images that ``size`` was chosen for
    waiting: tuple[Prepared, ...] = ()  # not encoded yet
    home: np.ndarray | None = None  # the rotation of the segment's first view against its camera
    unit: float = 1.0  # metres per unit of the network, throughout the segment
    shared: Update | None = None  # the provisional frames that the next chunk will estimate again
    placement: Placement = HOME  # of the newest chunk
    last: PosedFrame | None = None  # the newest final one
    parts: tuple[Part, ...] = ()
    placements: tuple[Placement, ...] = ()
    lost: int = 0  # frames that got no pose because a chunk failed
    owed: tuple[Update, ...] = ()  # final ones that an error kept from the caller

    def copied(self) -> State:
        return replace(self, chunker=copy.copy(self.chunker), continuity=copy.copy(self.continuity))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """For ``restore`` of the same Reconstructor, any number of times."""

    state: State
    record_mark: Any
