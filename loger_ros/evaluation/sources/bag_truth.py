"""True poses in a bag: Odometry, poses, transforms or TF, converted to the camera by static transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from loger_ros.evaluation.sources.base import MOST_FRAMES, Choice, SourceError
from loger_ros.evaluation.sources.own_camera import own_mounting
from loger_ros.events import EventLog
from loger_ros.geometry import inverse, rotation_of, transform
from loger_ros.types import Trajectory

POSE_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
TF_TYPE = "tf2_msgs/msg/TFMessage"
TRUE_NAMES = ("truth", "gt", "vicon", "mocap", "optitrack", "leica", "qualisys")
TRUE_ENDINGS = ("_truth", "_gt", "_ground_truth", "_true")  # x_gt stands for the true pose of x
BASES = ("base_link", "base_footprint")  # frames that stay level, as REP-105 and REP-120 name them
_BASES = [base + end for end in ("", *TRUE_ENDINGS) for base in BASES]
MOST_OFFERED = 20  # frames listed in a message
MOST_EDGES = 10_000  # static transforms

Open = Callable[[], AbstractContextManager[Any]]
Edges = dict[str, dict[str, np.ndarray]]  # frame → its neighbours, with the transform T_frame_neighbour


class BagTruth:
    def __init__(
        self, opened: Open, types: dict[str, str], choice: Choice, problems: EventLog, camera_frame: str
    ) -> None:
        self._opened, self._types = opened, types
        self._problems, self._camera_frame = problems, camera_frame
        self._choice = choice
        self._topic, self._frames = self._chosen(choice.truth)
        self._made: Trajectory | None = None

    def read(self) -> Trajectory | None:
        if self._made is None and self._topic:
            with self._opened() as reader:
                self._made = self._read(reader)
        return self._made

    def refuse_unknown(self, reader: Any) -> None:
        """Refuse a given topic or frames that do not exist, before the run rather than after it."""
        try:
            if self._topic and self._choice.truth_frame:
                self.mount(reader, self._choice.truth_frame, self._topic, named=True)
            there = self._transforms(reader) if self._frames[0] else set()
            silent = bool(self._choice.truth) and next(self._messages(reader), None) is None
        except SourceError:
            raise
        except Exception:  # from a damaged bag, which is reported when it is read
            return
        if silent:
            raise SourceError(f"{self._topic}, given as the truth, has no messages in this bag")
        if self._frames[0] and self._frames not in there:
            offered = ", ".join(f"{parent}:{child}" for parent, child in sorted(there)[:MOST_OFFERED])
            raise SourceError(
                f"{self._topic} has no transform{_of(self._frames)}; it has {offered or 'none'}: choose one "
                f"with --truth {self._topic}:PARENT:CHILD"
            )

    def _messages(self, reader: Any) -> Iterator[Any]:
        """Iterate over the messages of the topic: (connection, time, data)."""
        return iter(reader.messages([c for c in reader.connections if c.topic == self._topic]))

    def _transforms(self, reader: Any) -> set[tuple[str, str]]:
        """Return (parent, child) of all transforms, or of those up to the one that is wanted."""
        there: set[tuple[str, str]] = set()
        for connection, _, data in self._messages(reader):
            sent = reader.deserialize(data, connection.msgtype).transforms
            there |= {(each.header.frame_id, each.child_frame_id) for each in sent}
            if self._frames in there:
                break
        return there

    def _chosen(self, wanted: str) -> tuple[str, tuple[str, str]]:
        """Return the topic and, for TF such as /tf:world:base_link, the parent and child."""
        could_be = [topic for topic, kind in self._types.items() if kind in POSE_TYPES]
        if not wanted:
            true = [t for t in could_be if any(word in _words(t) for word in TRUE_NAMES)]
            return (sorted(true)[0] if true else ""), ("", "")
        topic, *frames = wanted.split(":")
        topic = topic if topic in self._types else f"/{topic}"
        if topic not in self._types:
            raise SourceError(f"the truth {wanted!r} is neither a file nor a topic; {_offered(could_be)}")
        if self._types[topic] == TF_TYPE:
            if len(frames) != 2:
                raise SourceError(f"say which transform is the truth: --truth {topic}:PARENT:CHILD")
            return topic, (frames[0], frames[1])
        if self._types[topic] not in POSE_TYPES:
            raise SourceError(f"{topic} has no poses ({self._types[topic]}); {_offered(could_be)}")
        return topic, ("", "")

    def _read(self, reader: Any) -> Trajectory | None:
        stamps: list[int] = []
        poses: list[np.ndarray] = []
        body = ""
        kind = self._types[self._topic]
        try:
            for connection, _, data in self._messages(reader):
                message = reader.deserialize(data, connection.msgtype)
                for stamp, pose, child in _poses(message, kind, self._frames):
                    body = body or child
                    stamps.append(stamp)
                    poses.append(pose)
                if len(stamps) >= MOST_FRAMES:
                    break
        except Exception as error:  # poses before the damage are kept
            text = f"{self._topic} cannot be read after {len(stamps)} poses ({error})"
            self._problems.add("truth_broken", 0, text)
        if not stamps:
            self._problems.add("no_truth", 0, f"{self._topic} has no poses{_of(self._frames)}")
            return None
        order = np.argsort(np.array(stamps, dtype=np.int64), kind="stable")
        named = bool(self._choice.truth_frame)
        T_body_camera = self.mount(reader, self._choice.truth_frame or body, self._topic, named)
        placed = np.array(poses)[order] @ T_body_camera
        return Trajectory(tuple(stamps[i] for i in order), placed, (0,) * len(stamps))

    def mount(self, reader: Any, body: str, topic: str, named: bool) -> np.ndarray:
        """Return T_body_camera from static transforms, and from the mounting that the user gave.

        If these do not lead to the camera, raise if ``named``; else take the poses as the camera's.
        """
        names = [body, *(body.removesuffix(end) for end in TRUE_ENDINGS if body.endswith(end))]
        camera = self._camera_frame
        if not body:
            text = (
                f"{topic} does not say which frame its poses describe: they are taken as the camera's. "
                f"Name the frame with --truth-frame: {camera or 'the frame of the images'} if it is the "
                "camera, or another such as base_link"
            )
            self._problems.add("truth_body_unknown", 0, text)
            return np.eye(4)
        if camera in names:
            return np.eye(4)
        edges = _static_edges(reader, self._problems)
        if self._choice.camera_xyz or self._choice.camera_rpy:
            T_base_camera = own_mounting(_mounting(edges, camera), self._choice)
            ways = (_path(edges, name, base) for base in _BASES for name in names)
            T_body_base = next((way for way in ways if way is not None), None)
            if T_body_base is not None:
                return T_body_base @ T_base_camera
        for name in names:
            found = _path(edges, name, camera)
            if found is not None:
                return found
        if named:
            offered = ", ".join(sorted(edges)[:MOST_OFFERED]) or "none"
            raise SourceError(
                f"no static transform leads from {body!r} to {camera!r}, so the poses of {topic} cannot be "
                f"converted to the camera: name another frame with --truth-frame; /tf_static has {offered}"
            )
        text = (
            f"no static transform leads from {body!r} to {camera!r}: the poses of {topic} are taken as "
            "the camera's. Name the frame they describe with --truth-frame, or say how the camera is "
            "mounted on base_link with --camera-xyz and --camera-rpy"
        )
        self._problems.add("truth_not_of_camera", 0, text)
        return np.eye(4)


def mounting(reader: Any, camera_frame: str, problems: EventLog) -> np.ndarray | None:
    """Return T_base_camera from static transforms; None if the recording has no robot's base."""
    return _mounting(_static_edges(reader, problems), camera_frame)


def _mounting(edges: Edges, camera_frame: str) -> np.ndarray | None:
    found = (_path(edges, name, camera_frame) for name in _BASES)
    return next((pose for pose in found if pose is not None), None)


def _poses(message: Any, kind: str, frames: tuple[str, str]) -> list[tuple[int, np.ndarray, str]]:
    """Return (stamp, pose, frame it describes) of each pose in a message; invalid poses are left out."""
    if kind == TF_TYPE:
        wanted = [t for t in message.transforms if (t.header.frame_id, t.child_frame_id) == frames]
        return [found for t in wanted for found in _poses(t, "geometry_msgs/msg/TransformStamped", frames)]
    child = getattr(message, "child_frame_id", "")
    if kind.endswith("TransformStamped"):
        place, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if kind.endswith("PoseStamped") else message.pose.pose
        place, turn = pose.position, pose.orientation
    numbers = np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w], dtype=float)
    if not np.isfinite(numbers).all() or not numbers[3:].any():
        return []
    stamp = message.header.stamp
    nanoseconds = stamp.sec * 1_000_000_000 + stamp.nanosec
    return [(int(nanoseconds), transform(rotation_of(numbers[3:]), numbers[:3]), child)]


def _static_edges(reader: Any, problems: EventLog) -> Edges:
    edges: Edges = {}
    connections = [c for c in reader.connections if c.topic == "/tf_static" and c.msgtype == TF_TYPE]
    if not connections:
        return edges
    count = 0
    for connection, data in _readable(reader, connections, problems):
        try:
            transforms = reader.deserialize(data, connection.msgtype).transforms
        except Exception as error:  # rosbags raises types of its own
            problems.add("tf_static_broken", 0, f"a message of /tf_static is damaged and left out ({error})")
            continue
        for sent in transforms:
            frames = (sent.header.frame_id, sent.child_frame_id)
            for _, pose, _ in _poses(sent, "geometry_msgs/msg/TransformStamped", frames):
                parent, child = (name.lstrip("/") for name in frames)
                edges.setdefault(parent, {})[child] = pose
                edges.setdefault(child, {})[parent] = inverse(pose)
                count += 1
        if count > MOST_EDGES:
            break
    return edges


def _readable(reader: Any, connections: list[Any], problems: EventLog) -> Iterator[tuple[Any, bytes]]:
    """Yield messages up to where the file is damaged."""
    try:
        for connection, _, data in reader.messages(connections):
            yield connection, data
    except Exception as error:
        problems.add("tf_static_broken", 0, f"/tf_static cannot be read to its end ({error})")


def _path(edges: Edges, start: str, goal: str) -> np.ndarray | None:
    """T_start_goal along static transforms."""
    start, goal = start.lstrip("/"), goal.lstrip("/")
    reached = {start: np.eye(4)}
    todo = [start]
    while todo and goal not in reached:
        here = todo.pop(0)
        for there, pose in edges.get(here, {}).items():
            if there not in reached:
                reached[there] = reached[here] @ pose
                todo.append(there)
    return reached.get(goal)


def _words(topic: str) -> list[str]:
    return topic.lower().replace("/", "_").split("_")


def _offered(topics: list[str]) -> str:
    return f"topics with poses: {', '.join(sorted(topics)) or 'none'}"


def _of(frames: tuple[str, str]) -> str:
    return f" from {frames[0]} to {frames[1]}" if frames[0] else ""
