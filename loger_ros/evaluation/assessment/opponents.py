"""What a model has to beat, on the films that it sees."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from loger_ros.evaluation.assessment.assess import Score, score
from loger_ros.evaluation.assessment.films import Film
from loger_ros.evaluation.assessment.guesses import arc, constant, still
from loger_ros.evaluation.assessment.scores import Say, scores
from loger_ros.evaluation.classical import essential_odometry, floor_odometry


def baselines(films: list[Film], say: Say) -> dict[str, dict[str, Any]]:
    """By name; a baseline that does not suit a motion leaves its films out."""
    found = {
        "zero motion": scores(films, lambda film: _posed(still(film.T_world_camera), film), "zero", say),
        "constant motion": scores(
            films, lambda film: _posed(constant(film.T_world_camera), film), "constant", say
        ),
        "best-fit arc": scores(films, _arc, "arc", say),
    }
    robots = [film for film in films if film.robot]
    for fine in (False, True):
        width = films[0].width * (2 if fine else 1)
        if robots:
            found[f"KLT + floor plane, {width} wide"] = scores(
                robots, partial(_floor, fine=fine), f"floor {width}", say
            )
        found[f"KLT + essential matrix, {width} wide"] = scores(
            films, partial(_essential, fine=fine), f"essential {width}", say
        )
    return found


def _posed(poses: np.ndarray, film: Film) -> Score:
    return score(poses, film.T_world_camera, metric=True)


def _arc(film: Film) -> Score:
    found = score(arc(film.T_world_camera), film.T_world_camera, metric=True)
    return dataclasses.replace(found, rotation=float("nan"), translation=float("nan"), end=float("nan"))


def _floor(film: Film, fine: bool) -> Score:
    assert film.height is not None
    assert film.pitch is not None
    images, matrix = _seen(film, fine)
    poses = floor_odometry(images, matrix, film.height, film.pitch)
    return score(poses, film.T_world_camera, metric=True)


def _essential(film: Film, fine: bool) -> Score:
    return score(essential_odometry(*_seen(film, fine)), film.T_world_camera, metric=False)


def _seen(film: Film, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    if not fine:
        return film.images, film.matrix
    assert film.fine is not None
    return film.fine, film.fine_matrix
