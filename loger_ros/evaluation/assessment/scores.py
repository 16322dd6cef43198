"""Scores of many films, and their means and medians."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from loger_ros.evaluation.assessment.assess import Score
from loger_ros.evaluation.assessment.films import Film

Say = Callable[[str], object]
ON_WHEELS = "on wheels"  # what is known of a robot besides its camera: it does not slide sideways


def judged(world: str) -> str:
    """The ATE that counts: in metres for robots, up to scale for other motions."""
    return "ate_se3" if world == "robot" else "ate_sim3"


def scores(films: list[Film], judge: Callable[[Film], Score], name: str, say: Say) -> dict[str, Any]:
    """The scores of each film, and their means and medians."""
    started = time.process_time()
    found = summary({film.name: dataclasses.asdict(judge(film)) for film in films})
    seconds = time.process_time() - started
    frames, mean = sum(len(film) for film in films), found["mean"]
    say(
        f"{name}: {len(films)} sequences, ATE {mean['ate_se3']:.2f} % SE(3), "
        f"{mean['ate_sim3']:.2f} % Sim(3), {mean['rotation']:.3f} degrees per frame, "
        f"depth {mean['depth']:.3f}; {frames / max(seconds, 1e-9):.0f} frames/s"
    )
    return found


def only(found: dict[str, Any], films: Iterable[Film]) -> dict[str, Any]:
    """The same summary for some of the films."""
    return summary({film.name: found["films"][film.name] for film in films})


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    columns = {field.name: [row[field.name] for row in rows.values()] for field in dataclasses.fields(Score)}
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "median": {name: float(np.median(values)) for name, values in columns.items()},
        "films": rows,
    }
