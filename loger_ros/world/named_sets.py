"""The named test sequences that evaluation and tables refer to. Their seeds never change."""

from __future__ import annotations

from dataclasses import replace

from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.sequences import Sequence, SequenceSpec

_TEST = SequenceSpec(split="test", effects=PRESETS["mild"])
NAMED_SETS: dict[str, tuple[int, tuple[SequenceSpec, ...]]] = {  # name → seed, specifications
    "robot_rooms": (9101, tuple(replace(_TEST, frames=n) for n in (500, 600, 800, 1000))),
    "robot_corridor_loop": (
        9102,
        tuple(replace(_TEST, place="corridor", frames=n, closed=True) for n in (600, 800, 1200, 2000)),
    ),
    "street": (9103, tuple(replace(_TEST, place="street", frames=n) for n in (500, 600, 800, 1000))),
    "handheld": (
        9104,
        tuple(
            replace(_TEST, place=place, motion="handheld", frames=n)
            for place, n in (("rooms", 500), ("corridor", 500), ("street", 600), ("rooms", 800))
        ),
    ),
}


def named_sequence(name: str, index: int, width: int = 112, height: int = 84) -> Sequence:
    """Sequence ``index`` of a named test set; place and path do not depend on the image size."""
    if name not in NAMED_SETS:
        raise ValueError(f"there is no test set {name!r}: choose from {', '.join(NAMED_SETS)}")
    seed, specs = NAMED_SETS[name]
    if not 0 <= index < len(specs):
        raise ValueError(f"test set {name} has sequences 0 to {len(specs) - 1}, not {index}")
    return generate(replace(specs[index], width=width, height=height), seed, index)
