"""Where the camera sits on the robot: from /tf_static or from parameters, never assumed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from loger_ros.geometry import inverse, rotation_of, transform
from loger_ros.ros.odometry import BODY_FROM_OPTICAL

MOST_FRAMES = 4096  # of /tf_static that are remembered


class Mounting(NamedTuple):
    """How a camera sits on the robot."""

    T_base_camera: np.ndarray  # (4, 4)
    T_level_camera: np.ndarray  # (4, 4) in a frame that stays level


class StaticTransforms:
    """The tree that /tf_static tells."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}  # child → parent, T_parent_child

    def hear(self, message: Any) -> None:
        """tf2_msgs/TFMessage. Edges that are no rigid motion are left out, as if they had not been sent."""
        for edge in message.transforms:
            if len(self._parents) >= MOST_FRAMES and edge.child_frame_id not in self._parents:
                continue
            pose = pose_of(edge.transform.translation, edge.transform.rotation)
            if pose is not None and edge.child_frame_id != edge.header.frame_id:
                self._parents[_plain(edge.child_frame_id)] = (_plain(edge.header.frame_id), pose)

    def between(self, base: str, camera: str) -> np.ndarray | None:
        """T_base_camera; None while there is no way between the two."""
        ways = [self._to_root(frame) for frame in (_plain(base), _plain(camera))]
        common = next((frame for frame in ways[0] if frame in ways[1]), None)
        if common is None:
            return None
        return inverse(ways[0][common]) @ ways[1][common]

    def above(self, frame: str) -> list[str]:
        """The frames that this one hangs below, up to the root."""
        return list(self._to_root(_plain(frame)))[1:]

    def _to_root(self, frame: str) -> dict[str, np.ndarray]:
        """T_ancestor_frame of the frame itself and of all frames above it."""
        way = {frame: np.eye(4)}
        while frame in self._parents:
            parent, T_parent_frame = self._parents[frame]
            if parent in way:
                break  # a loop, which somebody sent
            way[parent] = T_parent_frame @ way[frame]
            frame = parent
        return way


def mount(xyz: tuple[float, ...], rpy: tuple[float, ...]) -> np.ndarray:
    """T_base_camera, in optical axes, of a camera body at xyz (m), turned by roll, pitch and yaw (rad)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    rotation = np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
    return transform(rotation, np.array(xyz)) @ BODY_FROM_OPTICAL


def pose_of(position: Any, orientation: Any) -> np.ndarray | None:
    """(4, 4) of a message's position and quaternion; None if it is no rigid motion."""
    translation = np.array([position.x, position.y, position.z])
    turn = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if (
        not (np.isfinite(translation).all() and np.isfinite(turn).all())
        or abs(np.linalg.norm(turn) - 1) > 0.1
    ):
        return None
    return transform(rotation_of(turn), translation)


def _plain(frame: str) -> str:
    return frame.lstrip("/")  # an old habit of writing frames
