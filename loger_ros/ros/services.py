"""The node's services and ``initialpose``: requested in a callback, done elsewhere."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from loger_ros.ros import interface
from loger_ros.ros.background import Background
from loger_ros.ros.camera_stream import CameraStream, write_map
from loger_ros.ros.interface import qos_profile
from loger_ros.ros.recording import inside
from loger_ros.ros.transforms import pose_of
from loger_ros.ros.worker import Answer, Worker

MOST_WRITING = 4  # files at once


class NotNow(Exception):
    """The node cannot do that in its present state."""


class Services:
    """They exist as long as the node; ``serve`` sets what they work on while it is configured."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._worker: Worker | None = None
        self._streams: Sequence[CameraStream] = ()
        self._writing: list[Background] = []
        self._owed: dict[object, Path] = {}  # requested files that are not complete
        self._initial: np.ndarray | None = None  # the newest, if the worker has not handled it yet
        self._initial_lock = threading.Lock()
        work: dict[str, Callable[[], Awaitable[str]]] = {
            "~/reset": self._reset,
            "~/pause": self._pause,
            "~/resume": self._resume,
            "~/save_map": self._save_map,
            "~/save_trajectory": self._save_trajectory,
        }
        # A waiting callback would block the node's own group, with diagnostics, /clock and transitions in it.
        group = ReentrantCallbackGroup()
        for name in interface.SERVICES:
            node.create_service(Trigger, name, _answering(work[name]), callback_group=group)
        topic = interface.INITIAL_POSE
        node.create_subscription(
            PoseWithCovarianceStamped, topic.name, self._initial_pose, qos_profile(topic)
        )

    def serve(self, streams: Sequence[CameraStream], worker: Worker | None) -> None:
        self._streams, self._worker = streams, worker
        with self._initial_lock:
            self._initial = None

    def unwritten(self, timeout: float) -> list[Path]:
        """Requested files that are still incomplete after at most ``timeout`` seconds."""
        until = time.monotonic() + timeout
        for thread in self._writing:
            thread.goes_on(max(0.0, until - time.monotonic()))
        return list(self._owed.values())

    # ---- services ---------------------------------------------------------------------------------

    async def _reset(self) -> str:
        for stream in self._configured():
            await self._ask(stream, stream.reset)
        return "memory, map and path start over; odometry goes on"

    async def _pause(self) -> str:
        self._configured()
        if self._worker is None:
            raise NotNow("the node is not active, so there is nothing to pause")
        for stream in self._streams:
            stream.intake.paused = True
        longest = self._streams[0].config.stream.max_gap
        until = f"; after more than {longest:g} s (stream.max_gap) the memory starts over" if longest else ""
        return f"paused: images are dropped, memory and map are kept{until}"

    async def _resume(self) -> str:
        self._configured()
        if self._worker is None:
            raise NotNow("the node is not active; it will use images once it is activated")
        for stream in self._streams:
            stream.intake.paused = False
        return "images are used again"

    async def _save_map(self) -> str:
        said, points = [], 0
        with self._promised("map_file") as files:
            for stream, path, promise in files:
                cloud = await self._ask(stream, stream.map_cloud)
                if not len(cloud):
                    self._owed.pop(promise, None)
                    said.append(f"{interface.EMPTY_MAP}, so {path} is left as it is")
                    continue
                await self._in_background(functools.partial(write_map, path, cloud), promise)
                said.append(f"{path}: {len(cloud)} points")
                points += len(cloud)
        if not points:
            raise NotNow("; ".join(said))
        return "; ".join(said)

    async def _save_trajectory(self) -> str:
        said = []
        with self._promised("trajectory_file") as files:
            for stream, path, promise in files:
                count = await self._in_background(functools.partial(stream.save_trajectory, path), promise)
                said.append(f"{path}: {count} poses")
        return "; ".join(said)

    @contextmanager
    def _promised(self, setting: str) -> Iterator[list[tuple[CameraStream, Path, object]]]:
        """One file per stream, owed until complete or the caller is told why not. A signal leaves it owed."""
        files = [(stream, self._file(stream, setting), object()) for stream in self._configured()]
        self._owed.update({promise: path for _, path, promise in files})
        try:
            yield files
        except Exception:
            for _, _, promise in files:
                self._owed.pop(promise, None)
            raise

    # ---- initialpose ------------------------------------------------------------------------------

    def _initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        log = self._node.get_logger()
        if not self._streams or self._worker is None:
            log.warning("initialpose is ignored: the node is not active")
            return
        stream, frame = self._streams[0], message.header.frame_id.lstrip("/")
        pose = pose_of(message.pose.pose.position, message.pose.pose.orientation)
        if frame != stream.outputs.map_frame or pose is None:
            log.warning(
                f"initialpose is ignored: it must be a pose in {stream.outputs.map_frame!r}, but this one is "
                f"in {frame!r}{'' if pose is not None else ' and is not a rigid motion'}"
            )
            return
        with self._initial_lock:
            waits, self._initial = self._initial is not None, pose
        reason = "" if waits else self._worker.ask(lambda: self._place(stream)).refusal
        if reason:
            with self._initial_lock:
                self._initial = None
            log.warning(f"initialpose is ignored: {reason}")
            return
        log.info("initialpose: the map is moved so that the robot is at that pose")

    def _place(self, stream: CameraStream) -> None:
        """Runs in the worker's thread. Of several that came meanwhile, the newest counts."""
        with self._initial_lock:
            pose, self._initial = self._initial, None
        if pose is not None:
            stream.place(pose)

    # ---- helpers ----------------------------------------------------------------------------------

    def _configured(self) -> Sequence[CameraStream]:
        if not self._streams:
            raise NotNow("the node is not configured")
        return self._streams

    def _ask(self, stream: CameraStream, function: Callable[[], Any]) -> Answer:
        """Have it done in the worker's thread, or here if none runs: no transition can come in between."""
        if stream not in self._configured():  # changed while an earlier one was awaited
            raise NotNow("the node was reconfigured in the meantime")
        if self._worker is not None:
            return self._worker.ask(function)
        answer = Answer(self._wake)
        answer.settle_with(function)
        return answer

    def _in_background(self, function: Callable[[], Any], promise: object) -> Answer:
        self._writing = [thread for thread in self._writing if thread.goes_on()]
        if len(self._writing) >= MOST_WRITING:
            raise NotNow(f"{MOST_WRITING} files are already being written; try again when they are done")
        answer = Answer(self._wake)

        def write() -> Any:
            written = function()
            self._owed.pop(promise, None)
            return written

        thread = Background(functools.partial(answer.settle_with, write), "service")
        self._writing.append(thread)
        thread.start()
        return answer

    def _file(self, stream: CameraStream, setting: str) -> Path:
        output = stream.config.output
        folder = folder_of(self._node, stream.name, output.folder)
        path = inside(folder, getattr(output, setting), f"output.{setting}")
        if any(path in other.journals for other in self._streams):
            raise ValueError(
                f"output.{setting} is a journal ({path}), which the node itself writes: choose another name"
            )
        return path

    def _wake(self) -> None:
        if self._node.executor is not None:
            self._node.executor.wake()


def folder_of(node: Node, name: str, folder: str) -> Path:
    """The folder of one camera, different for each namespace of a node and each name of a camera."""
    return Path(folder).joinpath(*node.get_namespace().strip("/").split("/"), name)


def _answering(work: Callable[[], Awaitable[str]]) -> Any:
    async def callback(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = await work()
            response.success = True
        except Exception as error:  # the caller is told why
            response.success, response.message = False, f"{error}" or type(error).__name__
        return response

    return callback
