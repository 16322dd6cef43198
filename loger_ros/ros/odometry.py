"""Poses of the camera → odometry of the robot: smooth in odom, corrected in map (REP-105). No ROS here.

A chunk is one statement about all its frames: the motion between two of them is taken from one and the same
chunk, so odom → base_link never jumps when a new chunk sees the past differently. What the chunks disagree
about goes to map → odom. "World" is the frame of the reconstruction (the first camera's optical axes); "map"
is it turned upright and moved to where the robot started.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from loger_ros.geometry import adjoint, exp_rotation, inverse, log_rotation, nearest_rotation
from loger_ros.types import PosedFrame, Update

UNKNOWN = 1e6  # variance of a velocity that nobody can tell
# Columns: the axes of an optical frame (x right, y down, z ahead) in a body (x ahead, y left, z up).
BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Motion:
    """Of the robot, at one image."""

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
        self._last: _Last | None = None
        self.T_map_world: np.ndarray | None = None  # None until the first frame

    def mount(self, T_base_camera: np.ndarray) -> None:
        """Before the first frame, or before the first one after a restart."""
        self._T_camera_base = inverse(T_base_camera)
        self._carry = adjoint(T_base_camera)  # small motions of the camera are such of the base

    def follow(self, update: Update) -> list[Motion]:
        """Motions to the frames of an update that are newer than what is known."""
        motions = []
        said = {frame.stamp: frame.T_map_camera @ self._T_camera_base for frame in update.frames}
        if self._last is not None and self._last.stamp in said:  # this chunk's opinion of where we were
            self._last = replace(self._last, T_world_base=said[self._last.stamp])
        for frame in update.frames:
            last = self._last
            if last is None or frame.stamp > last.stamp or frame.segment > last.segment:
                motions.append(self._go(frame, said[frame.stamp], update.noise))
        return motions

    def restart(self) -> None:
        """The map begins anew, with the robot at its origin; odom goes on."""
        if self._last is not None:
            self._T_odom_start = self._last.T_odom_base
        self._start, self._last, self.T_map_world = np.eye(4), None, None

    def place(self, T_map_base: np.ndarray) -> None:
        """The robot is there now: the map is laid anew around it."""
        if self._last is None:
            self._start = T_map_base
        else:
            self.T_map_world = T_map_base @ inverse(self._last.T_world_base)

    def T_map_base(self, frame: PosedFrame) -> np.ndarray:
        T_world_base = frame.T_map_camera @ self._T_camera_base
        return self._world(T_world_base) @ T_world_base

    def map_covariance(self, frame: PosedFrame, T_map_base: np.ndarray) -> np.ndarray:
        """(6, 6) of the robot's pose, in the axes of the map."""
        return self._covariance(frame, T_map_base[:3, :3])

    def _go(self, frame: PosedFrame, T_world_base: np.ndarray, noise: np.ndarray) -> Motion:
        T_map_world = self._world(T_world_base)
        last = self._last
        if last is None:
            T_odom_base, twist, twist_covariance = self._T_odom_start, np.zeros(6), UNKNOWN * np.eye(6)
        else:
            step = inverse(last.T_world_base) @ T_world_base
            T_odom_base = last.T_odom_base @ step
            T_odom_base[:3, :3] = nearest_rotation(T_odom_base[:3, :3])
            if frame.segment == last.segment:
                twist, twist_covariance = self._twist(step, frame.stamp - last.stamp, noise)
            else:
                twist, twist_covariance = np.zeros(6), UNKNOWN * np.eye(6)
        self._last = _Last(frame.stamp, frame.segment, T_world_base, T_odom_base)
        return Motion(
            frame.stamp,
            T_odom_base,
            T_map_world @ T_world_base @ inverse(T_odom_base),
            self._covariance(frame, T_odom_base[:3, :3]),
            twist,
            twist_covariance,
        )

    def _world(self, T_world_base: np.ndarray) -> np.ndarray:
        """T_map_world, which the first frame decides."""
        if self.T_map_world is None:
            self.T_map_world = self._start @ inverse(T_world_base)
        return self.T_map_world

    def _twist(self, step: np.ndarray, duration: int, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """step: T_before_now of the base; noise (6, 6): of one pose, in the axes of the camera."""
        seconds = duration * 1e-9
        moved = np.concatenate([step[:3, 3], log_rotation(step[:3, :3])])
        # In the axes half-way between the two: a constant velocity on a curve comes out right.
        moved[:3] = exp_rotation(-moved[3:] / 2) @ moved[:3]
        return moved / seconds, 2 * self._carry @ noise @ self._carry.T / seconds**2

    def _covariance(self, frame: PosedFrame, rotation: np.ndarray) -> np.ndarray:
        """The camera's covariance in world axes → the base's in axes that see it turned by ``rotation``."""
        to_camera = _turn(frame.T_map_camera[:3, :3].T)
        carry = _turn(rotation) @ self._carry @ to_camera
        return carry @ frame.covariance @ carry.T


def _turn(rotation: np.ndarray) -> np.ndarray:
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = rotation
    return result
