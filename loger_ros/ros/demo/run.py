"""Runs the demo from outside: starts both processes, watches them and stops them."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loger_ros.ros.child import Child
from loger_ros.ros.dds_profile import apply_large_message_profile
from loger_ros.ros.demo.bag import BagRecorder
from loger_ros.ros.demo.observer import Observer
from loger_ros.ros.demo.progress import Progress, Table
from loger_ros.ros.health import OK
from loger_ros.ros.installation import keep_to_ourselves
from loger_ros.ros.interface import NODE
from loger_ros.ros.log_folder import use_writable_log_folder

SIZE = (160, 120)  # of the synthetic camera's images
CAMERA_HEIGHT = 0.5  # m above the ground, which is tiny's unit
CAMERA_PITCH = 8.0  # degrees down
VOXEL = 0.04  # m
TRAJECTORY, MAP = "trajectory.tum", "map.ply"
GLANCE = 0.3  # s between updates of the table
SILENCE = 3.0  # s without odometry after the last image: nothing more will come
PATIENCE = 60.0  # s for a service


class DemoFailed(Exception):
    """What happened, and the last lines that the process concerned printed."""


@dataclass(frozen=True)
class Plan:
    place: str
    seed: int
    seconds: float
    rate: float  # images per second
    checkpoint: str
    patience: float  # s that a process may take to start

    @property
    def frames(self) -> int:
        return max(2, round(self.seconds * self.rate))


def demonstrate(plan: Plan, folder: Path) -> Progress:
    """Run the demo and leave all results in ``folder``. Raises DemoFailed if that does not succeed."""
    keep_to_ourselves()
    apply_large_message_profile()
    use_writable_log_folder()
    for ending in (signal.SIGTERM, signal.SIGHUP):  # so that both processes are stopped then too
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    folder.mkdir(parents=True)
    progress = Progress()
    with ExitStack() as stack:
        observer = Observer(progress, _recorder(folder / "bag", stack))
        stack.callback(observer.close)
        _drive(plan, folder, observer, stack)
    return progress


def _recorder(folder: Path, stack: ExitStack) -> BagRecorder | None:
    try:
        recorder = BagRecorder(folder)
    except ImportError:
        print("No bag is recorded, because the package rosbags is missing (pip install rosbags).")
        return None
    stack.callback(recorder.close)
    return recorder


def _drive(plan: Plan, folder: Path, observer: Observer, stack: ExitStack) -> None:
    drive = f"{plan.seconds:.0f} s in {plan.place}, {plan.rate:g} images per second"
    print(f"Starting the node and the camera: {drive} ...", flush=True)
    node = Child("loger_ros.ros.node", _node_parameters(plan, folder), folder / "node.log")
    stack.callback(node.stop)
    camera = Child("loger_ros.ros.synthetic.camera", _camera_parameters(plan), folder / "camera.log")
    stack.callback(camera.stop)
    ready = observer.wait(
        lambda: _is_active(observer) or _trouble(observer, node) or observer.other_cameras(), plan.patience
    )
    _refuse_company(observer)
    if not ready or not _is_active(observer):
        reason = _trouble(observer, node) or f"it was not active within {plan.patience:.0f} s"
        raise DemoFailed(f"The node did not start: {reason}. It said:\n{node.last_words()}")
    observer.wait(lambda: observer.progress.truth or _ended(camera, node), plan.patience)
    _refuse_company(observer)
    table = Table(plan.frames)
    try:
        while not _over(observer, camera, node):
            observer.wait(lambda: False, GLANCE)
            table.show(observer.progress)
    except KeyboardInterrupt:
        print("\nEnded early; the results so far are kept.")
    table.show(observer.progress, last=True)
    if node.code is not None:
        raise DemoFailed(f"The node ended early, with code {node.code}. It said:\n{node.last_words()}")
    if camera.code not in (None, 0):
        raise DemoFailed(f"The camera failed, with code {camera.code}. It said:\n{camera.last_words()}")
    if not observer.progress.estimate:
        why = "; ".join(status.message for status in observer.status.values() if status.level != OK)
        raise DemoFailed(f"There was no odometry: {why or 'the node gives no reason'}.\n{node.last_words()}")
    camera.stop()
    try:
        print(observer.call(f"/{NODE}/save_map", PATIENCE))
    except RuntimeError as error:
        raise DemoFailed(f"The map was not saved: {error}. The node said:\n{node.last_words()}") from error
    _report_losses(observer)
    code = node.stop()  # writes the last poses
    if code:
        raise DemoFailed(f"The node ended with code {code}. It said:\n{node.last_words()}")


def _node_parameters(plan: Plan, folder: Path) -> dict[str, object]:
    return {
        "model.checkpoint": plan.checkpoint,
        "model.device": "auto",
        "model.threads": 1,
        **(
            {"stream.unit": CAMERA_HEIGHT, "stream.motion": "wheels"}
            if plan.checkpoint == "tiny"
            else {}  # others have other units
        ),
        "map.voxel_size": VOXEL,
        "health.image_timeout": 60.0,  # the camera may need longer than the node
        "output.map_period": 5.0,
        "output.folder": folder.absolute(),
        "output.journal": TRAJECTORY,
        "output.map_file": MAP,
    }


def _camera_parameters(plan: Plan) -> dict[str, object]:
    return {
        "place": plan.place,
        "seed": plan.seed,
        "frames": plan.frames,
        "rate": float(plan.rate),
        "at_end": "stop",
        "wait_for": 2,  # us and the node, which subscribes once it is active
        "width": SIZE[0],
        "height": SIZE[1],
        "camera_height": CAMERA_HEIGHT,
        "camera_pitch": CAMERA_PITCH,
    }


def _is_active(observer: Observer) -> bool:
    return observer.state() == "active"


def _trouble(observer: Observer, node: Child) -> str:
    """Return why the node will not become active; empty while it still may."""
    if node.code is not None:
        return f"it ended with code {node.code}"
    status = observer.status.get(f"{NODE}: node")
    failed = status is not None and status.level != OK and observer.state() == "unconfigured"
    return status.message if failed and status is not None else ""


def _refuse_company(observer: Observer) -> None:
    if observer.other_cameras():
        raise DemoFailed(
            "Another program publishes /image, such as another demo: stop it, or choose another domain: "
            "ROS_DOMAIN_ID=42 loger demo"
        )


def _ended(camera: Child, node: Child) -> bool:
    return camera.code is not None or node.code is not None


def _over(observer: Observer, camera: Child, node: Child) -> bool:
    """Whether the drive and the node's work on it are finished, or one of the processes has ended."""
    if node.code is not None or camera.code not in (None, 0):
        return True
    if camera.code is None:
        return False
    truth, estimate = observer.progress.truth, observer.progress.estimate
    if truth and estimate and max(estimate) >= max(truth):
        return True
    return time.monotonic() - observer.progress.heard > SILENCE


def _report_losses(observer: Observer) -> None:
    for name in observer.status:
        lost = {k: v for k, v in observer.values(name).items() if k.startswith("dropped_")}
        for cause, count in lost.items():
            print(f"Images not used: {count} ({cause.removeprefix('dropped_').replace('_', ' ')})")
