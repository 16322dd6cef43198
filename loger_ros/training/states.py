"""The state that a run goes on from, held against the recipe that is given now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from loger_ros.training.bank import RunError
from loger_ros.training.recipe import Recipe

STATE = "state.pt"


def read_state(folder: Path) -> dict[str, Any] | None:
    """None: a new run."""
    path = folder / STATE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)  # Adam counts steps there
    return state


def recipe_of(state: dict[str, Any], recipe: Recipe, world: int, folder: Path) -> Recipe:
    """The one it was trained by; refused where it cannot go on by ``recipe`` and with ``world`` processes."""
    path = folder / STATE
    before = Recipe.from_text(state["recipe"], path, state["variant"])
    if not before.same_until(recipe, min(state["stage"] + 1, len(before.stages))):
        raise RunError(
            f"{path} was trained by another recipe: train into another folder, or give the recipe it had "
            "(stages that have not begun may differ)"
        )
    if state.get("world", world) != world:
        raise RunError(
            f"{path} was trained by {state['world']} processes, which its steps are counted by, not by "
            f"{world}: go on with as many, or begin another run with --from"
        )
    return before
