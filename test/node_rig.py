"""The real node in a process of its own, and a tester beside it that talks to it over DDS."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from networks import small_model
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from loger_ros.geometry import rotation_of, transform
from loger_ros.model.checkpoint import save_checkpoint
from loger_ros.ros import interface
from loger_ros.ros.interface import NODE, Topic, qos_profile
from loger_ros.ros.messages import header, image_message
from loger_ros.ros.motion_messages import transform_message

PATIENCE = 60.0  # s; the machines of tests are slow and shared
STREAM = {  # what the checkpoint of the tests recommends
    "chunk_size": 6,
    "overlap": 2,
    "resolution": "32x24",
    "alignment": "se3",
    "resize": "bicubic",
    "provisional_every": 2,
}
SECOND = 1_000_000_000  # ns
KINDS = {
    interface.ODOMETRY: Odometry,
    interface.TF: TFMessage,
    interface.POSE: PoseWithCovarianceStamped,
    interface.PATH: PathMessage,
    interface.DIAGNOSTICS: DiagnosticArray,
}


def write_checkpoint(
    path: Path, stream: dict[str, Any] = STREAM, carried: dict[str, Any] | None = None
) -> Path:
    """A small network with random weights, as a file that recommends how to run it."""
    model = small_model()
    tensors = model.state_dict()
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    save_checkpoint(path, shapes, dataclasses.asdict(model.config), tensors.__getitem__, stream, carried)
    return path


def pictures(count: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> list[np.ndarray]:
    """Of width x height, all different and none of them noise."""
    width, height = size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


@contextmanager
def node_process(
    environment: dict[str, str],
    *arguments: str,
    python: tuple[str, str] = ("-m", "loger_ros.ros.node"),
    **parameters: Any,
) -> Iterator[subprocess.Popen]:
    """``stream__chunk_size=4`` stands for ``-p stream.chunk_size:=4``. What it says goes to ``said_by``."""
    words = [f"{name.replace('__', '.')}:={_yaml(value)}" for name, value in parameters.items()]
    command = [sys.executable, *python, "--ros-args", *arguments]
    with tempfile.NamedTemporaryFile("w", prefix="loger_node_", suffix=".txt") as log:
        process = subprocess.Popen(
            [*command, *(word for given in words for word in ("-p", given))], env=environment, stderr=log
        )
        process.log = Path(log.name)  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def said_by(process: subprocess.Popen) -> str:
    return process.log.read_text()  # type: ignore[attr-defined]


def end(process: subprocess.Popen, how: signal.Signals = signal.SIGINT) -> str:
    """Asks it to end, which must succeed; → all that it said."""
    process.send_signal(how)
    code = process.wait(60)
    said = said_by(process)
    assert code == 0, said
    assert "Traceback" not in said, said
    return said


class Tester:
    """A node of the test, with a deadline on every wait. Keeps everything it hears, by topic."""

    __test__ = False  # for pytest: no test in itself

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("tester", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        self.process: subprocess.Popen | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self._images: dict[str, Any] = {}

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    # ---- hearing ----------------------------------------------------------------------------------

    def hear(self, topic: Topic, kind: type | None = None, prefix: str = "") -> list[Any]:
        name = topic.name if topic.name.startswith("/") else prefix + topic.name
        kept = self.heard.setdefault(name, [])
        self.node.create_subscription(kind or KINDS[topic], name, kept.append, qos_profile(topic))
        return kept

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(
                    f"the node ended with {self.process.returncode}:\n{said_by(self.process)}"
                )
            assert time.monotonic() < deadline, f"waited in vain; heard {self.summary()}"
            self.executor.spin_once(timeout_sec=0.1)
        return result

    def rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)

    def summary(self) -> str:
        counts = {topic: len(kept) for topic, kept in self.heard.items()}
        said = said_by(self.process)[-3000:] if self.process is not None else ""
        return f"{counts}, health {self.health()}\n{said}"

    def health(self, name: str = "stream") -> dict[str, str]:
        """The newest status of that name; its message and level are in it too."""
        for array in reversed(self.heard.get(interface.DIAGNOSTICS.name, [])):
            for status in array.status:
                if status.name == f"{NODE}: {name}":
                    values = {value.key: value.value for value in status.values}
                    return {**values, "message": status.message, "level": str(status.level[0])}
        return {}

    # ---- talking ----------------------------------------------------------------------------------

    def send_mount(self, pose: np.ndarray, base: str = "base_link", camera: str = "camera") -> None:
        self._static.publish(TFMessage(transforms=[transform_message(0, base, camera, pose)]))

    def image_publisher(self, topic: str = "image", kind: type = Image) -> Any:
        if topic not in self._images:
            self._images[topic] = self.node.create_publisher(kind, topic, QoSProfile(depth=50))
            self.wait(lambda: self._images[topic].get_subscription_count() > 0)
            self.rest(0.5)  # the other side may not know yet, and a best-effort reader then misses images
        return self._images[topic]

    def send_images(
        self, images: list[np.ndarray], start: int, step: int = SECOND // 10, topic: str = "image"
    ) -> list[int]:
        """→ their stamps. A reliable reader gets all, where they are no more than it holds (10)."""
        publisher = self.image_publisher(topic)
        self.wait(publisher.get_subscription_count)  # the reader may be a new one
        stamps = [start + i * step for i in range(len(images))]
        for stamp, image in zip(stamps, images, strict=True):
            publisher.publish(image_message(header(stamp, "camera"), image, "rgb8"))
            self.rest(0.03)
        return stamps

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        try:
            self.wait(client.service_is_ready)
            future = client.call_async(request)
            self.wait(future.done)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def trigger(self, service: str) -> Trigger.Response:
        return self.call(Trigger, f"/{NODE}/{service}", Trigger.Request())

    def state(self) -> str:
        return self.call(GetState, f"/{NODE}/get_state", GetState.Request()).current_state.label

    def transition(self, asked: str | int) -> bool:
        """asked: label or number."""
        request = ChangeState.Request()
        setattr(request.transition, "label" if isinstance(asked, str) else "id", asked)
        return self.call(ChangeState, f"/{NODE}/change_state", request).success

    def set(self, name: str, value: Any) -> str:
        """→ the reason of a refusal; empty: it was taken."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, f"/{NODE}/set_parameters", request).results
        return "" if result.successful else result.reason


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * SECOND + message.header.stamp.nanosec


def pose_of(message: Any) -> np.ndarray:
    """(4, 4) of a Pose or a Transform."""
    place = message.position if hasattr(message, "position") else message.translation
    turn = message.orientation if hasattr(message, "orientation") else message.rotation
    return transform(
        rotation_of(np.array([turn.x, turn.y, turn.z, turn.w])), np.array([place.x, place.y, place.z])
    )


def edges(messages: list[TFMessage], child: str) -> dict[int, TransformStamped]:
    return {
        stamp_of(edge): edge
        for message in messages
        for edge in message.transforms
        if edge.child_frame_id == child
    }


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


os.environ.setdefault("OMP_NUM_THREADS", "1")
