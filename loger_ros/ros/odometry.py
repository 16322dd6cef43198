"""Makes odometry of the robot from camera poses: smooth in odom, corrected in map (REP-105). No ROS here.

A chunk is one estimate of all its frames. The motion between two of them is taken from one and the same
chunk, so odom → base_link never jumps when a new chunk sees the past differently. The difference between
chunks goes to map → odom. "World" is the frame of the reconstruction (the first camera's optical axes); "map"
is the world rotated upright and moved to where the robot started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from loger_ros.geometry import adjoint, exp_rotation, inverse, log_rotation, nearest_rotation, transform
from loger_ros.types import PosedFrame, Update

UNKNOWN = 1e6  # variance of an unknown velocity


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of the robot at one image."""

    stamp: int  # nanoseconds
    T_odom_base: np.ndarray  # (4, 4)
    T_map_odom: np.ndarray  # (4, 4)
    covariance: np.ndarray  # (6, 6) of T_odom_base: x, y, z, then rotation about x, y, z, in the axes of odom
    twist: np.ndarray  # (6,) linear and angular velocity in the axes of the base
    twist_covariance: np.ndarray  # (6, 6)


@dataclass(frozen=True, eq=False)
class _Last:
    stamp: int
    segment: int
    T_world_base: np.ndarray
    T_odom_base: np.ndarray


class Odometer:
    def __init__(self, T_base_camera: np.ndarray) -> None:
        self.mount(T_base_camera)
        self._start = np.eye(4)  # T_map_base of the first frame
        self._T_odom_start = np.eye(4)
        self._at_start = np.zeros((6, 6))  # covariance of that
        self._newest = np.zeros((6, 6))  # covariance of the last pose in odom
        self._last: _Last | None = None
        self.T_map_world: np.ndarray | None = None  # None until the first frame
        self._settled = False  # previews may still move the first frame, a final pose decides

    def mount(self, T_base_camera: np.ndarray) -> None:
        """Set the mounting. Only before the first frame, or before the first one after a restart."""
        self._T_camera_base = inverse(T_base_camera)
        self._carry = adjoint(T_base_camera)  # from small motions of the camera to those of the base

    def follow(self, update: Update) -> list[Motion]:
        """Return the motions to the frames of an update (one segment) that are newer than what is known."""
        stamps, last = [frame.stamp for frame in update.frames], self._last
        if last is not None and last.stamp in stamps:  # where this chunk says that we were
            then = update.frames[stamps.index(last.stamp)]
            # It may say that its previews were of another segment. A first chunk may repeat a stamp from
            # before a clock jumped back.
            segment = then.segment if update.chunk > 0 else last.segment
            T_world_base = then.T_map_camera @ self._T_camera_base
            self._last = last = replace(last, segment=segment, T_world_base=T_world_base)
        frames = [
            frame
            for frame in update.frames
            if last is None or frame.stamp > last.stamp or frame.segment > last.segment
        ]
        if update.frames:
            self._lay_map(update.frames[0], update.final_count > 0)
        return self._go(frames, last, update.noise) if frames else []

    def restart(self) -> None:
        """Start a new map with the robot at its origin; odom goes on."""
        if self._last is not None:
            self._T_odom_start, self._at_start = self._last.T_odom_base, self._newest
        self._start, self._last, self.T_map_world = np.eye(4), None, None
        self._settled = False

    def place(self, T_map_base: np.ndarray) -> None:
        """Move the map so that the robot is at this pose now."""
        if self._last is None or self.T_map_world is None:
            self._start = T_map_base
            return
        T_map_world = T_map_base @ inverse(self._last.T_world_base)
        self._start = T_map_world @ inverse(self.T_map_world) @ self._start
        self.T_map_world = T_map_world

    def in_map(self, frames: Sequence[PosedFrame]) -> np.ndarray:
        """Return the poses (n, 4, 4) of the robot at those frames, which are final."""
        return self._lay_map(frames[0], final=True) @ _poses(frames) @ self._T_camera_base

    def covariances(self, frames: Sequence[PosedFrame], poses: np.ndarray) -> np.ndarray:
        """(n, 6, 6) of the robot at those frames, in the axes that ``poses`` (n, 4, 4) refer to."""
        to_camera = _turn(np.swapaxes(_poses(frames)[:, :3, :3], -1, -2))
        carry = _turn(poses[:, :3, :3]) @ self._carry @ to_camera
        return carry @ np.array([frame.covariance for frame in frames]) @ np.swapaxes(carry, -1, -2)

    def _go(self, frames: Sequence[PosedFrame], last: _Last | None, noise: np.ndarray) -> list[Motion]:
        """last: where the robot was before the first frame. noise: (6, 6) of one pose, in camera axes."""
        T_world_base = _poses(frames) @ self._T_camera_base
        first = frames[0]
        connected = last is not None and last.segment == first.segment
        if last is None:
            last = _Last(first.stamp, first.segment, T_world_base[0], self._T_odom_start)
        steps = inverse(np.concatenate([last.T_world_base[None], T_world_base[:-1]])) @ T_world_base
        if not connected:  # a segment begins at the last final pose; odom may be at a later preview
            steps[0] = np.eye(4)
        T_odom_base = np.array(list(accumulate(steps, np.matmul, initial=last.T_odom_base))[1:])
        T_odom_base[:, :3, :3] = nearest_rotation(T_odom_base[:, :3, :3])
        stamps = np.array([last.stamp, *(frame.stamp for frame in frames)])
        twists, twist_covariances = self._twists(steps, np.diff(stamps), noise)
        if not connected:
            twists[0], twist_covariances[0] = 0, UNKNOWN * np.eye(6)
        T_map_odom = self.T_map_world @ T_world_base @ inverse(T_odom_base)
        covariances = self.covariances(frames, T_odom_base)
        if self._at_start.any():
            covariances = covariances + self._from_start(T_odom_base)
        self._newest = covariances[-1]
        self._last = _Last(frames[-1].stamp, frames[-1].segment, T_world_base[-1], T_odom_base[-1])
        columns = zip(
            stamps[1:].tolist(), T_odom_base, T_map_odom, covariances, twists, twist_covariances, strict=True
        )
        return [Motion(*row) for row in columns]

    def _from_start(self, T_odom_base: np.ndarray) -> np.ndarray:
        """(n, 6, 6): an error of direction at the start of the map moves what is far from there."""
        turns = np.tile(np.eye(3), (len(T_odom_base), 1, 1))
        carry = adjoint(transform(turns, self._T_odom_start[:3, 3] - T_odom_base[:, :3, 3]))
        return carry @ self._at_start @ carry.swapaxes(-1, -2)

    def _lay_map(self, first: PosedFrame, final: bool) -> np.ndarray:
        """Return T_map_world, which the first frame decides."""
        if self.T_map_world is None or not self._settled:
            self.T_map_world = self._start @ inverse(first.T_map_camera @ self._T_camera_base)
            self._settled = final
        return self.T_map_world

    def _twists(
        self, steps: np.ndarray, durations: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """steps (n, 4, 4): T_before_now of the base. A duration of zero (a first frame) says nothing."""
        seconds = np.maximum(durations, 1)[:, None] * 1e-9
        turned = log_rotation(steps[:, :3, :3])
        # In the axes half-way between the two: a constant velocity on a curve comes out right.
        moved = exp_rotation(-turned / 2) @ steps[:, :3, 3:]
        twists = np.concatenate([moved[..., 0], turned], axis=1) / seconds
        return twists, 2 * self._carry @ noise @ self._carry.T / seconds[..., None] ** 2


def _poses(frames: Sequence[PosedFrame]) -> np.ndarray:
    return np.array([frame.T_map_camera for frame in frames])


def _turn(rotations: np.ndarray) -> np.ndarray:
    """(n, 3, 3) → (n, 6, 6)"""
    result = np.zeros((len(rotations), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotations
    return result
