"""The baselines that a model has to beat, on the films that it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from loger_ros.evaluation.assessment.assess import Score, score
from loger_ros.evaluation.assessment.films import Film
from loger_ros.evaluation.assessment.guesses import arc, constant, still
from loger_ros.evaluation.assessment.scores import ON_WHEELS, Say, scores
from loger_ros.evaluation.classical import essential_odometry, floor_odometry, settings_for
from loger_ros.geometry import inverse, nearest_rotation
from loger_ros.stream.lens import rays
from loger_ros.stream.wheels import turn_per_slide, without_slides

EVERY = 4  # step, in pixels, between those whose true depth is used


def baselines(films: list[Film], say: Say) -> dict[str, dict[str, Any]]:
    """Scores by the name of the baseline. A baseline that does not suit a motion leaves its films out."""
    found = {
        "zero motion": scores(films, lambda film: _posed(still(film.T_world_camera), film), "zero", say),
        "constant motion": scores(
            films, lambda film: _posed(constant(film.T_world_camera), film), "constant", say
        ),
        "best-fit arc": scores(films, _arc, "arc", say),
    }
    width = films[0].width
    looks = {f"{width} wide": _whole, f"{2 * width} wide": _fine}
    if any(film.seen is not film.images for film in films):
        looks["the network's view"] = _cut
    robots = [film for film in films if film.robot]
    for where, look in looks.items():
        if robots:
            name = f"KLT + floor plane, {where}"
            ridden: dict[str, np.ndarray] = {}
            found[name] = scores(robots, partial(_floor, look, ridden), name, say)
            name = f"{name}, {ON_WHEELS}"
            found[name] = scores(robots, partial(_on_wheels, ridden), name, say)
        name = f"KLT + essential matrix, {where}"
        found[name] = scores(films, partial(_essential, look), name, say)
    return found


@dataclass(frozen=True, eq=False)
class Look:
    """The part of a film that a classical method is given."""

    images: np.ndarray  # (F, h, w, 3) or (F, h, w) uint8
    matrix: np.ndarray  # (3, 3)
    pitch: float | None  # degrees downwards
    T_look_camera: np.ndarray  # (4, 4)
    width: int  # of the whole image, by which the settings are chosen


def _whole(film: Film) -> Look:
    return Look(film.images, film.matrix, film.pitch, np.eye(4), film.width)


def _fine(film: Film) -> Look:
    assert film.fine is not None
    return Look(film.fine, film.fine_matrix, film.pitch, np.eye(4), film.fine.shape[2])


def _cut(film: Film) -> Look:
    """The same pixels as the network, without the black border, whose edge would be full of corners."""
    rows, columns = film.clear
    matrix = film.seen_matrix.copy()
    matrix[:2, 2] -= columns.start, rows.start
    return Look(film.seen[:, rows, columns], matrix, film.seen_pitch, film.turn, film.width)


def _posed(poses: np.ndarray, film: Film) -> Score:
    return score(poses, film.T_world_camera, metric=True)


def _arc(film: Film) -> Score:
    found = score(arc(film.T_world_camera), film.T_world_camera, metric=True)
    return dataclasses.replace(found, rotation=float("nan"), translation=float("nan"), end=float("nan"))


def _floor(look: Callable[[Film], Look], ridden: dict[str, np.ndarray], film: Film) -> Score:
    """Score the floor method. The poses of the camera are stored in ``ridden``."""
    given = look(film)
    assert film.height is not None
    assert given.pitch is not None
    settings = settings_for(given.width, floor=True)
    poses = floor_odometry(given.images, given.matrix, film.height, given.pitch, settings)
    ridden[film.name] = poses @ given.T_look_camera
    return _posed(ridden[film.name], film)


def _on_wheels(ridden: dict[str, np.ndarray], film: Film) -> Score:
    """Treat the stored poses as the stream treats a network's, but with the true depths."""
    assert film.T_base_seen is not None
    mount = np.tile(film.T_base_seen, (len(film), 1, 1))
    some = slice(None, None, EVERY)
    points = torch.from_numpy(rays(film.camera)[some, some] * film.depth[:, some, some, None])
    turns = turn_per_slide(points, torch.zeros_like(points[..., :1]), mount)
    poses = ridden[film.name] @ inverse(film.turn)
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])  # else errors add up over thousands of steps
    poses = without_slides(poses, mount, turns)
    return _posed(poses @ film.turn, film)


def _essential(look: Callable[[Film], Look], film: Film) -> Score:
    given = look(film)
    poses = essential_odometry(given.images, given.matrix, settings_for(given.width, floor=False))
    return score(poses @ given.T_look_camera, film.T_world_camera, metric=False)
