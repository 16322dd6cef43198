"""A vehicle on wheels does not slide sideways at the point that it turns about.

In a few small images, a turn and a step to the side look much alike: both move everything to one side. If a
network's steps make that point of the vehicle slide, the slide is replaced by the turn that moves the image
most like it, with everything as far away as the network says. docs/wheels.md shows what this is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from loger_ros.events import EventLog
from loger_ros.geometry import inverse
from loger_ros.stream.inference import Answer

SHARPEST = 0.5  # rad; a step that turns by more, or would afterwards, is left as it is
NEAREST = 0.03  # of the median depth; nearer points would outweigh all others
POINTS = 512  # of a frame, approximately, that are used for how far away things are
MOUNTING_UNKNOWN = (
    "stream.motion is wheels, but motion is treated as free because the mounting of the camera is not known: "
    "publish camera_info and leave input.undistort true. A recording needs /tf_static from base_link to the "
    "camera, or --camera-xyz and --camera-rpy"
)


def on_wheels(answer: Answer, mounts: Sequence[np.ndarray | None], events: EventLog, stamp: int) -> Answer:
    """Return the same chunk without slides; ``mounts``: T_base_camera of each frame."""
    known = [mount for mount in mounts if mount is not None]
    if len(known) < len(mounts):
        events.add("mounting_unknown", stamp, MOUNTING_UNKNOWN)
        return answer
    T_base_camera = np.stack(known)
    turns = turn_per_slide(answer.local_points, answer.confidence, T_base_camera)
    return replace(answer, T_chunk_camera=without_slides(answer.T_chunk_camera, T_base_camera, turns))


def without_slides(T_chunk_camera: np.ndarray, T_base_camera: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return the poses (n, 4, 4) of a chunk without slides; the first one stays as it is.

    T_base_camera (n, 4, 4): x ahead, z up, the origin at the point the vehicle turns about. turns (n,): what
    ``turn_per_slide`` returns for each frame.
    """
    T_chunk_base = T_chunk_camera @ inverse(T_base_camera)
    steps = inverse(T_chunk_base[:-1]) @ T_chunk_base[1:]
    turn = np.arctan2(steps[:, 1, 0], steps[:, 0, 0])
    ahead = steps[:, 0, 3]
    slide = steps[:, 1, 3] - ahead * np.tan(turn / 2)  # an arc ends in the direction of half the turn
    missed = slide * (turns[:-1] + turns[1:]) / 2
    believed = (np.abs(turn) < SHARPEST) & (np.abs(turn + missed) < SHARPEST)
    steps[:, :3, :3] = _about_up(np.where(believed, missed, 0)) @ steps[:, :3, :3]
    steps[:, 1, 3] = np.where(believed, ahead * np.tan((turn + missed) / 2), steps[:, 1, 3])
    for i, step in enumerate(steps):
        T_chunk_base[i + 1] = T_chunk_base[i] @ step
    return T_chunk_base @ T_base_camera


def turn_per_slide(local_points: Tensor, confidence: Tensor, T_base_camera: np.ndarray) -> np.ndarray:
    """Return, for each frame, the turn (rad) of the vehicle that moves the image most like a slide by 1, both
    to the left: by least squares over the points.

    local_points (n, H, W, 3), confidence (n, H, W, 1) logits, T_base_camera (n, 4, 4) → (n,)
    """
    every = max(1, round((local_points[0, ..., 0].numel() / POINTS) ** 0.5))
    points = local_points[:, ::every, ::every].flatten(1, 2).float()
    weight = confidence[:, ::every, ::every, 0].flatten(1).float().sigmoid()
    mount = torch.from_numpy(T_base_camera).to(points)
    rotation, place = mount[:, :3, :3], mount[:, None, :3, 3]
    from_base = points @ rotation.mT + place
    turned = torch.stack([from_base[..., 1], -from_base[..., 0], torch.zeros_like(from_base[..., 0])], -1)
    by_turn = _flow(points, turned @ rotation)
    by_slide = _flow(points, -rotation[:, 1:2].expand_as(points))
    depth = points[..., 2]
    least = NEAREST * depth.nanmedian(1, keepdim=True).values.clamp(min=0)
    seen = (depth > least) & by_turn.isfinite().all(-1)
    weight = torch.where(seen, weight, 0)[..., None]
    alike, square = ((weight * flow * by_turn).nan_to_num().sum((1, 2)) for flow in (by_slide, by_turn))
    return torch.where(square > 0, alike / square, 0).double().cpu().numpy()


def _flow(points: Tensor, motion: Tensor) -> Tensor:
    """Return how images of points (n, k, 3) move, (n, k, 2) in focal lengths, if these move by ``motion``."""
    depth = points[..., 2:]
    return (motion[..., :2] - points[..., :2] / depth * motion[..., 2:]) / depth


def _about_up(angle: np.ndarray) -> np.ndarray:
    """Return rotations (n, 3, 3) about the up axis, to the left."""
    turned = np.tile(np.eye(3), (len(angle), 1, 1))
    turned[:, 0, 0] = turned[:, 1, 1] = np.cos(angle)
    turned[:, 1, 0], turned[:, 0, 1] = np.sin(angle), -np.sin(angle)
    return turned
