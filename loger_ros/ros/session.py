"""What exists between configure and cleanup: the network, a stream for each camera, and the worker."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from loger_ros.events import EventLog
from loger_ros.geometry import mount
from loger_ros.ros.camera_stream import CameraStream
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.health import WARN, CameraHealth, Trouble, status_message
from loger_ros.ros.inputs import Inputs
from loger_ros.ros.interface import PATIENCE
from loger_ros.ros.outputs import Outputs
from loger_ros.ros.recording import inside
from loger_ros.ros.services import folder_of
from loger_ros.ros.statistics import Statistics
from loger_ros.ros.time_jumps import TimeJumps
from loger_ros.ros.transforms import Mounting, StaticTransforms
from loger_ros.ros.worker import Worker
from loger_ros.stream.prepare import Preparation

MOST_REPORTED = 16  # different texts that are logged of one camera
HURRY = 3.0  # s: a last chunk that would take longer is dropped at the end of the process


@dataclass
class Channel:
    """One camera, from its input topics to its output topics."""

    stream: CameraStream
    health: CameraHealth
    events: EventLog
    statistics: Statistics
    jumps: TimeJumps
    inputs: Inputs | None = None  # while active
    said: set[str] = field(default_factory=set)  # the lasting problems that were logged


class Session:
    def __init__(self, node: Node, config: NodeConfig, model: Any, transforms: StaticTransforms) -> None:
        self._node, self._config, self._model, self._transforms = node, config, model, transforms
        # Refuses a size that does not fit the network, before any image comes.
        Preparation(config.stream.size, patch=model.patch_size)
        self.worker: Worker | None = None
        self.channels: list[Channel] = []
        try:
            for number, camera in enumerate(config.input.cameras):
                self.channels.append(self._channel(number, camera))
        except Exception:
            self.close()
            raise

    @property
    def streams(self) -> list[CameraStream]:
        return [channel.stream for channel in self.channels]

    @property
    def model(self) -> Any:
        return self._model

    @property
    def gpu_lost(self) -> str:
        """Why the GPU is lost; empty if it works."""
        return next((stream.gpu_lost for stream in self.streams if stream.gpu_lost), "")

    def activate(self) -> None:
        self.worker = Worker(self.streams, self._wake_executor)
        try:
            for channel in self.channels:
                channel.statistics.lost("inactive", channel.stream.queue.clear())
                channel.health.activated()
                channel.stream.intake.paused = False
                channel.inputs = Inputs(
                    self._node,
                    channel.stream.name,
                    self._config.input,
                    channel.stream.intake,
                    channel.events,
                    channel.statistics,
                )
        except BaseException:
            self.deactivate()
            raise
        self.worker.start()

    def deactivate(self) -> bool:
        """Stop; memory and map stay. False: the network did not finish in time."""
        for channel in self.channels:
            if channel.inputs is not None:
                channel.inputs.close()
                channel.inputs = None
        stopped = self.worker is None or self.worker.stop(PATIENCE)
        if stopped:
            self.worker = None
        return stopped

    def finish(self, in_a_hurry: bool) -> None:
        """Send the last poses to their topics and to the disk. Only while no worker runs."""
        for channel in self.channels:
            channel.stream.finish(in_a_hurry and chunk_time(channel.statistics) > HURRY)

    def close(self) -> None:
        for channel in self.channels:
            channel.jumps.close()
            channel.stream.close()
            channel.stream.outputs.close()
        self.channels.clear()

    def settings_changed(self, config: NodeConfig) -> None:
        self._config = config
        for stream in self.streams:
            stream.settings_changed(config)

    def statuses(self, hardware: str) -> list[DiagnosticStatus]:
        statuses = []
        busy_for = self.worker.busy_for() if self.worker else 0.0
        for channel in self.channels:
            paused = channel.stream.intake.paused
            waits = self._config.queue.policy == "keep_all" and channel.stream.queue.full  # for the network
            expecting = not paused and not waits
            troubles = channel.health.troubles(self._config.health, channel.inputs, busy_for, expecting)
            rate = channel.statistics.rate("frame")
            fine = "paused" if paused else f"{rate:.1f} images per second" if channel.inputs else "not active"
            outputs = channel.stream.outputs
            lasting = channel.health.other_publishers(outputs.odometry_topic, outputs.other_publishers)
            if channel.inputs is not None:
                lasting += _of_the_camera(channel.stream, channel.inputs.info_topic)
            if channel is self.channels[0]:
                lasting += self._two_parents()
            self._say_once(channel, lasting)
            troubles = [*lasting, *troubles]
            troubles.sort(key=lambda trouble: trouble.level, reverse=True)
            values = channel.health.values()
            values["queue"] = f"{len(channel.stream.queue)} of {self._config.queue.capacity}"
            name = f"{self._node.get_name()}: {channel.stream.name or 'stream'}"
            statuses.append(status_message(name, hardware, troubles, fine, values))
        return statuses

    def _say_once(self, channel: Channel, lasting: list[Trouble]) -> None:
        """Log them, too, because perhaps nobody looks at the diagnostics."""
        for trouble in lasting:
            if trouble.message not in channel.said and len(channel.said) < MOST_REPORTED:
                channel.said.add(trouble.message)
                self._say(f"{channel.stream.name}: {trouble.message}".removeprefix(": "))

    def _two_parents(self) -> list[Trouble]:
        """Report a second parent of the base in TF: nothing else would say why the tree is broken."""
        frames = self._config.frames
        above = self._transforms.above(frames.base)
        if not frames.publish_odom_base or not above:
            return []
        ours = {frames.map, frames.odom} & set(above)
        other = "remove that one from /tf_static" if ours else f"set frames.base to {above[-1]}"
        text = (
            f"{frames.base} has the parent {above[0]} on /tf_static and {frames.odom} from this node, but TF "
            f"allows one: {other}, or set frames.publish_odom_base and frames.publish_map_odom to false"
        )
        return [Trouble(WARN, text)]

    def _channel(self, number: int, camera: str) -> Channel:
        node, config = self._node, self._config
        prefix = f"{camera}: " if camera else ""
        events = EventLog(lambda message: self._say(prefix + message))
        statistics = Statistics()
        journal = None
        if config.output.journal:
            folder = folder_of(node, camera, config.output.folder)
            journal = inside(folder, config.output.journal, "output.journal")
        outputs = Outputs(node, camera, config, number == 0, partial(self._aged, statistics))
        jumps = TimeJumps(node.get_clock())
        try:
            stream = CameraStream(
                camera,
                config,
                self._model,
                events,
                statistics,
                outputs,
                journal=journal,
                mounting=partial(self._mounting, number),
                now=self._now,
                too_late=jumps.before,
                left_behind=jumps.left_behind,
                wake=self._wake_worker,
            )
        except Exception:
            outputs.close()
            jumps.close()
            raise
        return Channel(stream, CameraHealth(events, statistics), events, statistics, jumps)

    def _mounting(self, number: int, camera_frame: str) -> Mounting | None:
        frames = self._config.frames
        if frames.extrinsic != "tf":
            of_this = slice(3 * number, 3 * number + 3)
            T_base_camera = mount(frames.camera_xyz[of_this], frames.camera_rpy[of_this])
            return Mounting(T_base_camera, T_base_camera)
        known = [
            self._transforms.between(f, camera_frame) for f in (frames.base, frames.level or frames.base)
        ]
        return None if known[0] is None or known[1] is None else Mounting(known[0], known[1])

    def _say(self, message: str) -> None:
        if self._node.context.ok():
            self._node.get_logger().warning(message)
        else:  # ROS has already ended while the last poses are written
            print(f"{self._node.get_name()}: {message}", file=sys.stderr)

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _aged(self, statistics: Statistics, topic: str, stamp: int) -> None:
        statistics.took(f"age {topic}", (self._now() - stamp) * 1e-9)

    def _wake_worker(self) -> None:
        if self.worker is not None:
            self.worker.wake()

    def _wake_executor(self) -> None:
        if self._node.executor is not None:
            self._node.executor.wake()


def chunk_time(statistics: Statistics) -> float:
    """Approximate seconds that a chunk takes; before the first one, what the slowest image took."""
    if chunks := statistics.percentiles("chunk"):
        return chunks[0]
    images = statistics.percentiles("push")
    return images[2] if images else 0.0


def _of_the_camera(stream: CameraStream, info_topic: str) -> list[Trouble]:
    """What the network cannot know of the camera, or was not trained with."""
    troubles = []
    if reason := stream.lens_unknown:
        troubles.append(Trouble(WARN, f"rotations and lengths are wrong: {reason} ({info_topic})"))
    troubles += [Trouble(WARN, text) for text in stream.mounted_otherwise]
    return troubles
