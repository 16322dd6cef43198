"""Where the camera sits on the robot: from /tf_static or from parameters, never assumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from loger_ros.geometry import inverse, rotation_of, transform

MOST_FRAMES = 4096  # of /tf_static that are remembered
MOST_REFUSED = 64  # that are reported


class Mounting(NamedTuple):
    """How a camera sits on the robot."""

    T_base_camera: np.ndarray  # (4, 4)
    T_level_camera: np.ndarray  # (4, 4) in a frame that stays level


class StaticTransforms:
    """The tree of the transforms on /tf_static."""

    def __init__(self, say: Callable[[str], object] = lambda text: None) -> None:
        """say: called once for each transform that cannot be used."""
        self._parents: dict[str, tuple[str, np.ndarray]] = {}  # child → parent, T_parent_child
        self._say = say
        self._refused: set[tuple[str, str]] = set()

    def hear(self, message: Any) -> None:
        """Take a tf2_msgs/TFMessage. What is not a rigid motion is ignored, as if it had not been sent."""
        for edge in message.transforms:
            parent, child = _plain(edge.header.frame_id), _plain(edge.child_frame_id)
            pose = pose_of(edge.transform.translation, edge.transform.rotation)
            if pose is None:
                self._refuse(parent, child, "its numbers are not finite or its quaternion is not of length 1")
            elif parent == child:
                self._refuse(parent, child, "its parent is itself")
            elif len(self._parents) >= MOST_FRAMES and child not in self._parents:
                self._refuse(parent, child, f"{MOST_FRAMES} frames are known already")
            else:
                self._parents[child] = (parent, pose)

    def _refuse(self, parent: str, child: str, why: str) -> None:
        if (parent, child) not in self._refused and len(self._refused) < MOST_REFUSED:
            self._refused.add((parent, child))
            self._say(f"the transform {parent} → {child} of /tf_static is ignored: {why}")

    def between(self, base: str, camera: str) -> np.ndarray | None:
        """T_base_camera; None while nothing connects the two."""
        ways = [self._to_root(frame) for frame in (_plain(base), _plain(camera))]
        common = next((frame for frame in ways[0] if frame in ways[1]), None)
        if common is None:
            return None
        return inverse(ways[0][common]) @ ways[1][common]

    def above(self, frame: str) -> list[str]:
        """The parent of this frame, its parent and so on, up to the root."""
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


def pose_of(position: Any, orientation: Any) -> np.ndarray | None:
    """(4, 4) of a message's position and quaternion; None if it is not a rigid motion."""
    translation = np.array([position.x, position.y, position.z])
    turn = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if (
        not (np.isfinite(translation).all() and np.isfinite(turn).all())
        or abs(np.linalg.norm(turn) - 1) > 0.1
    ):
        return None
    return transform(rotation_of(turn), translation)


def _plain(frame: str) -> str:
    return frame.lstrip("/")  # an old way of writing frames
