"""All families of textures, by name and by role."""

from __future__ import annotations

from loger_ros.world.paint import rooms, streets, things  # noqa: F401  they register themselves
from loger_ros.world.paint.families import FAMILIES, FIRST_MEMBERS, SPLITS, paint

__all__ = ["FAMILIES", "SPLITS", "by_role", "paint", "roster"]


def roster(split: str) -> list[str]:
    """The names of a split's textures, such as ``brick.2``, in the order of the atlas."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    return [
        f"{name}.{FIRST_MEMBERS[split] + i}"
        for name, entry in FAMILIES.items()
        if split in entry.splits
        for i in range(entry.members)
    ]


def by_role(split: str) -> dict[str, list[int]]:
    """Numbers of the textures in the split's atlas, by what they are for."""
    roles: dict[str, list[int]] = {}
    for number, name in enumerate(roster(split)):
        roles.setdefault(FAMILIES[name.split(".")[0]].role, []).append(number)
    return roles
