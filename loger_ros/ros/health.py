"""/diagnostics: one status per camera. Its message says what is wrong and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from loger_ros.events import EventLog
from loger_ros.failures import first_line
from loger_ros.ros.config import HealthConfig
from loger_ros.ros.inputs import Inputs
from loger_ros.ros.statistics import Statistics

AGED = ("odometry", "tf", "pose", "path", "points", "map_points", "depth", "confidence")
RECENT = 10.0  # s for which a problem counts as present
LASTING = 30.0  # s for which another publisher must be there to be reported
HOPELESS = 3  # failures without odometry since the first of them
MOST_SHOWN = 3  # problems in one message
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Trouble:
    level: bytes
    message: str


class CameraHealth:
    """Finds what is wrong with one camera. Asked once a second."""

    def __init__(self, events: EventLog, statistics: Statistics) -> None:
        self._events, self._statistics = events, statistics
        self._since = time.monotonic()
        self._seen: dict[str, tuple[int, float]] = {}  # event → how often so far, and when last
        self._silent_since: float | None = None  # monotonic: the last image before the silence
        self._hangs = False  # whether the network hung at the last look
        self._others_since: float | None = None  # monotonic
        self._succeeded = (0, 0)  # messages of odometry, and failures up to the last of them

    def activated(self) -> None:
        self._since, self._silent_since = time.monotonic(), None

    def troubles(
        self, settings: HealthConfig, inputs: Inputs | None, busy_for: float, expecting: bool
    ) -> list[Trouble]:
        """Return the problems, worst first. expecting: whether images should be coming."""
        found = []
        if busy_for > settings.step_timeout:
            text = (
                f"the network has been working on one image for {busy_for:.0f} s (health.step_timeout is "
                f"{settings.step_timeout:g}): the GPU or the disk of output.folder hangs, or the machine is "
                "far too slow. See dmesg and nvidia-smi; if this goes on, restart the node. The trajectory "
                "written so far is on disk"
            )
            if not self._hangs:
                self._events.add("network_hangs", 0, text)
            found.append(Trouble(ERROR, text))
        self._hangs = busy_for > settings.step_timeout
        if self._nothing_succeeds():
            text = "images fail and give no odometry: see frame_failed and chunk_lost for the reason"
            found.append(Trouble(ERROR, text))
        if inputs is not None and expecting:
            found += self._silence(settings, inputs)
        found += [Trouble(WARN, message) for message in self._recent_events()]
        return found

    def other_publishers(self, topic: str, count: int) -> list[Trouble]:
        """Report others who publish our odometry. DDS lists a killed node for a while, so they must last."""
        now = time.monotonic()
        if not count:
            self._others_since = None
            return []
        self._others_since = now if self._others_since is None else self._others_since
        if now - self._others_since < LASTING:
            return []
        text = (
            f"{topic} has another publisher ({count}), so subscribers receive the poses of both: stop the "
            "other node, or start one of them in a namespace (__ns)"
        )
        return [Trouble(WARN, text)]

    def values(self) -> dict[str, str]:
        statistics = self._statistics
        values = {
            "images_received": str(statistics.counts["image"]),
            "images_per_second": f"{statistics.rate('image'):.1f}",
            "frames_processed": str(statistics.counts["frame"]),
            "frames_per_second": f"{statistics.rate('frame'):.1f}",
            "frames_without_pose": str(statistics.counts["without_pose"]),
            "odometry_per_second": f"{statistics.rate('odometry'):.1f}",
        }
        for name in ("intake", "push", "preview", "chunk"):
            values |= _spread(f"{name}_ms", statistics.percentiles(name), 1e3)
        for name in AGED:
            values |= _spread(f"age_{name}_s", statistics.percentiles(f"age {name}"), 1.0)
        values |= {f"dropped_{cause}": str(count) for cause, count in sorted(statistics.dropped.items())}
        values |= {f"event_{name}": str(count) for name, count in sorted(self._events.counts.items())}
        return values

    def _nothing_succeeds(self) -> bool:
        failures = self._events.counts["frame_failed"] + self._events.counts["chunk_lost"]
        odometry = self._statistics.counts["odometry"]
        if odometry != self._succeeded[0]:
            self._succeeded = odometry, failures
        return failures - self._succeeded[1] >= HOPELESS

    def _silence(self, settings: HealthConfig, inputs: Inputs) -> list[Trouble]:
        last = max(self._statistics.last.get("image", 0.0), self._since)
        if self._silent_since is not None and last > self._silent_since:
            self._silent_since = None
            self._events.add("images_again", 0, f"images arrive again on {inputs.topic}")
        quiet = time.monotonic() - last
        if quiet < settings.image_timeout:
            return []
        text = f"no image for {quiet:.0f} s: {inputs.why_nothing_comes()}"
        if self._silent_since is None:
            self._silent_since = last
            self._events.add("no_images", 0, text)
        return [Trouble(WARN, text)]

    def _recent_events(self) -> list[str]:
        """The newest message of each kind of recent event; the kind that happened last comes first."""
        now = time.monotonic()
        newest = {event.name: event.message for event in list(self._events.recent)}
        messages: list[tuple[float, str]] = []
        for name, count in list(self._events.counts.items()):
            before, when = self._seen.get(name, (0, now))
            if count > before:
                when = now
            self._seen[name] = (count, when)
            if now - when < RECENT and name in newest and name not in ("no_images", "images_again"):
                messages.append((when, f"{name}: {newest[name]}"))
        messages.sort(key=lambda message: message[0], reverse=True)
        return [text for _, text in messages]


def status_message(
    name: str, hardware: str, troubles: list[Trouble], fine: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    message = DiagnosticStatus(name=name, hardware_id=hardware)
    message.level = troubles[0].level if troubles else OK
    message.message = " | ".join(trouble.message for trouble in troubles[:MOST_SHOWN]) if troubles else fine
    message.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    return message


def or_failure_status(
    name: str, state: str, look: Callable[[], list[DiagnosticStatus]]
) -> list[DiagnosticStatus]:
    """Return what ``look`` finds. If it fails, for example because the GPU is lost, report that instead."""
    try:
        return look()
    except Exception as error:
        text = (
            f"the node cannot check its own state: {type(error).__name__}: {first_line(error)}. If the GPU "
            "failed, see dmesg and nvidia-smi, and restart the node. The trajectory so far is on disk"
        )
        return [status_message(name, "", [Trouble(ERROR, text)], state, {"state": state})]


def network_values(model: Any) -> dict[str, str]:
    """Values of the model as a whole (a WatchedModel)."""
    work = model.work
    values = {
        "network_calls": str(work.calls),
        "network_clock_s": f"{work.clock:.3f}",
        "network_processor_s": f"{work.processor:.3f}",
        "process_processor_s": f"{time.process_time():.3f}",
    }
    values |= {f"gate_{kind}": f"{mean:.4f}" for kind, mean in model.gate_means.items()}
    if model.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(model.device)
        values["gpu_memory_mb"] = f"{torch.cuda.memory_allocated(model.device) / 1e6:.0f}"
        values["gpu_free_mb"] = f"{free / 1e6:.0f} of {total / 1e6:.0f}"
    return values


def _spread(key: str, percentiles: tuple[float, float, float] | None, factor: float) -> dict[str, str]:
    if percentiles is None:
        return {}
    return {
        f"{key}_{name}": f"{value * factor:.3f}"
        for name, value in zip(("p50", "p95", "p99"), percentiles, strict=True)
    }
