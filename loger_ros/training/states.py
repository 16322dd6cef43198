"""The state that a run goes on from, held against the recipe that is given now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from loger_ros.failures import first_line
from loger_ros.files import appearing_whole
from loger_ros.training.bank import RunError
from loger_ros.training.recipe import Recipe

STATE, BEFORE = "state.pt", "state.before.pt"


def write_state(state: dict[str, Any], folder: Path) -> None:
    """Whole or not at all; the one before is kept."""
    path = folder / STATE
    try:
        with appearing_whole(path) as file:
            torch.save(state, file)
            if is_zipfile(path):  # a damaged one is not worth its place
                path.replace(folder / BEFORE)
    except RuntimeError as error:  # torch's own, where the disk is full
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error


def read_state(folder: Path, say: Callable[[str], object]) -> dict[str, Any] | None:
    """The last one, or the one before where that is damaged or missing. None: a new run."""
    path, earlier = folder / STATE, folder / BEFORE
    if not path.exists() and not earlier.exists():
        return None
    state, reason = _read(path)
    if state is None:
        state, _ = _read(earlier)
        if state is None:
            raise RunError(
                f"{path} {reason}, and no earlier one is whole: train into another folder, --from "
                f"{folder / 'model.safetensors'} to begin with its weights"
            )
        say(f"{path} {reason}: going on from {earlier}, which is some minutes older at most")
    return state


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Or why not."""
    try:
        # Adam's counts of steps stay on the CPU.
        return torch.load(path, map_location="cpu", weights_only=True), ""
    except FileNotFoundError:
        return None, "is missing"
    except (OSError, MemoryError):
        raise
    except Exception:  # what unpickling a damaged file raises has no bounds, and torch's cure is to trust it
        return None, "is damaged"


def recipe_of(
    state: dict[str, Any], recipe: Recipe, world: int, folder: Path, say: Callable[[str], object]
) -> Recipe:
    """The one it was trained by; refused where it cannot go on by ``recipe`` and with ``world`` processes."""
    path, done = folder / STATE, state["stage"]
    before = Recipe.from_text(state["recipe"], path, state["variant"])
    if not before.same_until(recipe, done):
        raise RunError(
            f"{path} was trained by another recipe: train into another folder, or give the recipe it had "
            "(stages that have not begun may differ, and of the one that has, learning_rate, muon_rate and "
            "clip_gradient)"
        )
    if state.get("world", world) != world:
        raise RunError(
            f"{path} was trained by {state['world']} processes, which its steps are counted by, not by "
            f"{world}: go on with as many, or begin another run with --from"
        )
    if done < len(before.stages):
        was = before.steps_of(done)
        for name, value in recipe.steps_of(done).items():
            if value != was[name]:
                say(f"{recipe.stages[done].name} goes on with {name} {value:g}, which was {was[name]:g}")
    return before
