"""How a model does outside its training range: the same paths, with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from loger_ros.config import StreamConfig
from loger_ros.evaluation.assessment.assess import assess
from loger_ros.evaluation.assessment.films import ATTEMPTS, Film, film, sized
from loger_ros.evaluation.assessment.scores import Say, scores
from loger_ros.model import LoGeR
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.nuisance import Nuisances, Troublemaker
from loger_ros.world.sequences import PLACES, Sequence, SequenceSpec

FRAMES = 300  # of each sequence
SEED = 9300
SHAKEN = 0.05  # metres by which shaking may move the point on the ground
INSIDE = "as trained"
SPEC = SequenceSpec(
    split="test", hfov=80, camera_height=0.5, camera_pitch=10, camera_shake=0.1, effects=PRESETS["mild"]
)


@dataclass(frozen=True)
class Condition:
    changes: dict[str, Any] = field(default_factory=dict)  # of the sequence's specification
    every: int = 1  # 2 keeps every second frame
    lost: float = 0.0  # share of the frames, at random


CONDITIONS = {
    INSIDE: Condition(),
    "camera 0.125 m high": Condition({"camera_height": 0.125}),  # surfaces stay 0.12 m away
    "camera 1.6 m high": Condition({"camera_height": 1.6}),
    "10 degrees up": Condition({"camera_pitch": -10.0}),
    "35 degrees down": Condition({"camera_pitch": 35.0}),
    "camera 0.5 m ahead": Condition({"camera_forward": 0.5}),  # of the turning point
    "field of view 50 degrees": Condition({"hfov": 50.0}),
    "field of view 115 degrees": Condition({"hfov": 115.0}),
    "every second frame": Condition(every=2),
    "three frames of ten lost": Condition(lost=0.3),
    "shaking by 1 degree": Condition({"camera_shake": 1.0}),
    "harsh effects": Condition({"effects": PRESETS["harsh"]}),
    "a tenth of the light": Condition({"effects": replace(PRESETS["mild"], dimness=0.9)}),
    "walkers": Condition({"movers": 8}),
}


def outside(
    model: LoGeR,
    size: tuple[int, int],
    device: torch.device | str,
    taught: StreamConfig,
    say: Say,
    *,
    seed: int = SEED,
    frames: int = FRAMES,
    **changes: Any,
) -> dict[str, dict[str, Any]]:
    """Scores by condition, on one path of a robot in each kind of place."""
    spec = sized(replace(SPEC, frames=frames), size)
    sequences = {place: ways(replace(spec, place=place), seed) for place in PLACES}
    found = {}
    for name, condition in CONDITIONS.items():
        films = [
            _thinned(film(place, way[name], size, device, fine=False, taught=taught), condition, seed)
            for place, way in sequences.items()
        ]
        found[name] = scores(films, partial(assess, model, **changes), name, say)
    return found


def ways(spec: SequenceSpec, seed: int) -> dict[str, Sequence]:
    """Sequences by condition, which follow the same path over the ground.

    They are of the first seed whose path is free for the camera of every condition.
    """
    for attempt in range(ATTEMPTS):
        with suppress(ValueError):
            made = {
                name: generate(replace(spec, **condition.changes), seed + 1_000_000 * attempt)
                for name, condition in CONDITIONS.items()
            }
            ground = [sequence.T_world_base[:, :2, 3] for sequence in made.values()]
            if all(np.allclose(other, ground[0], atol=SHAKEN) for other in ground):
                return made
    raise ValueError(f"no path is free for every camera, with {ATTEMPTS} seeds starting with {seed}: {spec}")


def _thinned(whole: Film, condition: Condition, seed: int) -> Film:
    """The film without the frames that the condition drops."""
    keep = np.array(list(_published(whole, condition.lost, seed)))
    keep[np.arange(len(whole)) % condition.every != 0] = False
    if keep.all():
        return whole
    return replace(
        whole,
        images=whole.images[keep],
        seen=whole.seen[keep],
        depth=whole.depth[keep],
        T_world_camera=whole.T_world_camera[keep],
        stamps=whole.stamps[keep],
    )


def _published(whole: Film, lost: float, seed: int) -> Iterator[bool]:
    judge = Troublemaker(Nuisances(drop=lost), seed)
    for stamp in whole.stamps:
        yield judge.judge(stamp / 1e9, int(stamp)).published
