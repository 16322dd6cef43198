"""The state that a run resumes from, checked against the recipe that is given now."""

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
    """Write the state completely or not at all; keep the previous one."""
    path = folder / STATE
    try:
        with appearing_whole(path) as file:
            torch.save(state, file)
            if is_zipfile(path):  # a damaged file is not worth keeping
                path.replace(folder / BEFORE)
    except RuntimeError as error:  # raised by torch when the disk is full
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error


def read_state(folder: Path, say: Callable[[str], object]) -> dict[str, Any] | None:
    """Return the last state, or the previous one if that is damaged or missing. None: a new run."""
    path, earlier = folder / STATE, folder / BEFORE
    if not path.exists() and not earlier.exists():
        return None
    state, reason = _read(path)
    if state is None:
        state, _ = _read(earlier)
        if state is None:
            raise RunError(
                f"{path} {reason}, and there is no intact earlier one: train into another folder, with "
                f"--from {folder / 'model.safetensors'} to start from its weights"
            )
        say(f"{path} {reason}: resuming from {earlier}, which is at most a few minutes older")
    return state


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the state, or None and the reason."""
    try:
        # Adam's step counts stay on the CPU.
        return torch.load(path, map_location="cpu", weights_only=True), ""
    except FileNotFoundError:
        return None, "is missing"
    except (OSError, MemoryError):
        raise
    except Exception:  # unpickling a damaged file may raise anything, and torch's advice is to trust it
        return None, "is damaged"


def recipe_of(
    state: dict[str, Any], recipe: Recipe, world: int, folder: Path, say: Callable[[str], object]
) -> Recipe:
    """Return the recipe of a state; refuse one that ``recipe`` and ``world`` processes cannot resume."""
    path, done = folder / STATE, state["stage"]
    before = Recipe.from_text(state["recipe"], path, state["variant"])
    if not before.same_until(recipe, done):
        raise RunError(
            f"{path} was trained with another recipe: train into another folder, or give the original recipe "
            "(stages that have not begun may differ; in the current stage, learning_rate, muon_rate and "
            "clip_gradient may differ)"
        )
    if state.get("world", world) != world:
        raise RunError(
            f"{path} was trained by {state['world']} processes, and its steps are counted for that number, "
            f"not for {world}: resume with as many processes, or start another run with --from"
        )
    if done < len(before.stages):
        was = before.steps_of(done)
        for name, value in recipe.steps_of(done).items():
            if value != was[name]:
                say(f"{recipe.stages[done].name} continues with {name} {value:g}, which was {was[name]:g}")
    return before
