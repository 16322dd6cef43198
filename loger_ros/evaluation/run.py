"""Run a recording through the core as fast as possible: no frame dropped, the same numbers every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from loger_ros.config import NO_PITCH, CloudConfig, MapConfig, StreamConfig
from loger_ros.evaluation.association import TOLERANCE, associate
from loger_ros.evaluation.depth import DepthSample
from loger_ros.evaluation.intrinsics import FocalLength
from loger_ros.evaluation.memory import Peak
from loger_ros.evaluation.seen_depth import SeenDepth
from loger_ros.evaluation.sources import Source
from loger_ros.evaluation.sources.ahead import read_ahead
from loger_ros.evaluation.sources.base import quiet_log
from loger_ros.events import EventLog
from loger_ros.failures import reason_of
from loger_ros.mapping.cloud import Cloud, world_points
from loger_ros.mapping.journal import Journal
from loger_ros.mapping.mapper import Mapper
from loger_ros.mapping.voxel_map import VoxelMap
from loger_ros.model.carried import Carried
from loger_ros.stream import Reconstructor
from loger_ros.stream.lens import bends, check_lens
from loger_ros.types import Camera, Frame, Trajectory, Update

Progress = Callable[[int], None]  # gets the number of frames taken


@dataclass(frozen=True)
class Settings:
    """Everything that changes the outcome, besides the model and the recording."""

    stream: StreamConfig = field(default_factory=StreamConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    map: MapConfig = field(default_factory=MapConfig)
    fast_weights: bool = True
    sliding_window: bool = True
    undistort: bool = True  # if the lens distorts and the source knows how
    frames: int = 0  # at most; 0: all
    every: int = 1  # take every N-th frame

    def count_of(self, frames: int) -> int:
        """Return how many frames are taken from a recording with ``frames`` frames."""
        taken = -(-frames // self.every)
        return min(taken, self.frames) if self.frames else taken


@dataclass
class Timing:
    """Wall-clock seconds."""

    steps: list[float] = field(default_factory=list)  # one per frame: encode, or a whole chunk
    waits: float = 0.0  # for the reader
    mapping: float = 0.0  # points, depth samples
    total: float = 0.0


@dataclass(frozen=True, eq=False)
class Run:
    """The result of running a recording."""

    stamps: tuple[int, ...]  # of the frames that were taken
    trajectory: Trajectory  # final poses
    first_reported: Trajectory  # the pose that each frame was first given
    delays: np.ndarray  # (N,) s of the recording's time between a frame and its first pose
    cloud: Cloud
    true_cloud: np.ndarray | None  # (M, 3) in the truth's world
    voxel_size: float  # of both clouds, each in its own unit
    depth: DepthSample
    timing: Timing
    peak: dict[str, float]  # MB
    events: EventLog
    camera: Camera | None  # of the network images; fitted to the points if the recording has none
    camera_is_known: bool


def run_source(
    source: Source,
    model: Any,
    settings: Settings,
    *,
    tolerance: int = TOLERANCE,
    journal: Journal | None = None,
    progress: Progress = lambda frames: None,
) -> Run:
    """tolerance: ns between an image and the true pose by which its true depth is placed."""
    events = quiet_log()
    camera = usable_camera(source, settings, events)
    mounted = source.camera.T_base_camera if source.camera else None
    taught = getattr(model, "carried", Carried())
    if mounted is not None and (
        doubts := taught.doubts(settings.stream.unit, mounted, in_use=camera is not None)
    ):
        events.add("mounted_otherwise", 0, "; ".join(doubts))
    pitched = settings.stream.pitch != NO_PITCH
    if pitched and mounted is None and not source.problems.counts["no_mounting"]:
        text = (
            "nothing (such as /tf_static of a bag, or --camera-xyz and --camera-rpy) says how the camera is "
            "mounted, so images are not rotated to the pitch that the network was trained with; on a "
            "vehicle, lengths are then wrong by a factor"
        )
        events.add("no_mounting", 0, text)
    stream = Reconstructor.from_config(
        model,
        settings.stream,
        fast_weights=settings.fast_weights,
        sliding_window=settings.sliding_window,
        camera=camera,
        record=journal,
        events=events,
        keep_results=False,
    )
    take = _Take(source, settings, model.device, events, lambda: stream.camera, tolerance)
    timing = take.timing
    with Peak(model.device) as peak, torch.inference_mode():
        begun = waited = time.perf_counter()
        for frame in _readable(read_ahead(chosen(source, settings)), events):
            started = time.perf_counter()
            timing.waits += started - waited
            updates = _pushed(stream, frame, events)
            _finish(model.device)
            timing.steps.append(time.perf_counter() - started)
            take.frame(frame.stamp, updates)
            progress(len(timing.steps))
            waited = time.perf_counter()
        try:
            take.end(stream.flush())
        except Exception as error:  # what came before is kept
            events.add("last_chunk_lost", 0, reason_of(error))
        timing.total = time.perf_counter() - begun
    return take.run(peak.megabytes, events, stream.camera)


def usable_camera(source: Source, settings: Settings, events: EventLog) -> Camera | None:
    """Return the camera for undistorting images and adapting them to the network's view; None: leave them."""
    camera = source.camera if settings.undistort else None
    if camera is not None and (bends(camera) or settings.stream.field_of_view):
        try:
            check_lens(camera)
        except ValueError as error:
            events.add("camera_unusable", 0, f"{error}; images are used as they are")
            return None
    return camera


def run_of(trajectory: Trajectory, stamps: tuple[int, ...]) -> Run:
    """Return a run that was made elsewhere: poses and nothing else."""
    nothing = torch.zeros(0, 3)
    return Run(
        stamps,
        trajectory,
        _trajectory([]),
        np.zeros(0),
        Cloud(nothing, nothing.byte(), torch.zeros(0)),
        None,
        0.0,
        DepthSample(),
        Timing(),
        {},
        quiet_log(),
        None,
        False,
    )


def _readable(frames: Iterator[Frame], events: EventLog) -> Iterator[Frame]:
    """Yield frames up to where reading fails; what came before is kept."""
    try:
        yield from frames
    except Exception as error:  # such as a disk that is gone
        events.add("reading_failed", 0, f"{type(error).__name__}: {error}; the rest is left out")


def _pushed(stream: Reconstructor, frame: Frame, events: EventLog) -> list[Update]:
    """Push one frame; whatever happens to it, the next one can still be pushed."""
    try:
        return stream.push(frame)
    except ValueError as error:  # an image that the stream refuses, which leaves the stream unchanged
        events.add("frame_refused", frame.stamp, f"{error}; the frame is left out")
    except Exception as error:  # from the network
        events.add("frame_failed", frame.stamp, reason_of(error))
    return []


def chosen(source: Source, settings: Settings) -> Iterator[Frame]:
    frames = islice(source.frames(), 0, None, settings.every)
    return islice(frames, settings.frames) if settings.frames else frames


class _Take:
    """Collects the output of the stream."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        device: torch.device,
        events: EventLog,
        network_camera: Callable[[], Camera | None],
        tolerance: int,
    ) -> None:
        """network_camera: returns that of the images as the network sees them, once there was an image."""
        self._source, self._settings, self._tolerance = source, settings, tolerance
        self._network_camera = network_camera
        self._seen: SeenDepth | None = None
        self._stamps: list[int] = []
        self._final: list[tuple[int, np.ndarray, int]] = []
        self._first: dict[int, tuple[np.ndarray, int, float]] = {}
        self._map = Mapper(settings.map, settings.cloud, events, device)
        self._true_voxels: VoxelMap | None = None
        self._truth: dict[int, np.ndarray] | None = None  # by stamp, read once depth needs it
        self._depth = DepthSample()
        self._focal = FocalLength()
        self.timing = Timing()

    def frame(self, stamp: int, updates: list[Update]) -> None:
        self._stamps.append(stamp)
        started = time.perf_counter()
        for update in updates:
            self._take(update, stamp)
        self.timing.mapping += time.perf_counter() - started

    def end(self, updates: list[Update]) -> None:
        for update in updates:
            self._take(update, self._stamps[-1] if self._stamps else 0)

    def _take(self, update: Update, now: int) -> None:
        for posed in update.frames:
            if posed.stamp not in self._first:
                self._first[posed.stamp] = (posed.T_map_camera, posed.segment, (now - posed.stamp) * 1e-9)
        update = update[: update.final_count]
        if not update.frames:
            return
        self._final += [(posed.stamp, posed.T_map_camera, posed.segment) for posed in update.frames]
        self._focal.add(update.local_points[-1].float().cpu().numpy())
        mapped = self._map.add(update)
        for i, posed in enumerate(update.frames):
            depth = self._source.depth(posed.stamp)
            if depth is not None:
                predicted = update.local_points[i, ..., 2].float().cpu().numpy()
                self._compare(posed.stamp, predicted, depth, posed.stamp in mapped)

    def _compare(self, stamp: int, predicted: np.ndarray, depth: np.ndarray, mapped: bool) -> None:
        height, width = predicted.shape
        self._seen = self._seen or SeenDepth(self._source.camera, self._network_camera())
        true = self._seen.at(depth, (height, width))
        self._depth.add(predicted, true)
        rays = self._seen.rays((height, width))
        if rays is not None and mapped:
            self._true_points(stamp, self._in_range(true, predicted), rays)

    def _in_range(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Remove depths that the map leaves out; its limits are in its own unit, found from the medians."""
        config = self._settings.cloud
        known = np.isfinite(true) & np.isfinite(predicted)
        if not (config.min_range or config.max_range) or not known.any():
            return true
        depth = true * (np.median(predicted[known]) / np.median(true[known]))
        return np.where((depth > config.min_range) & (depth < (config.max_range or np.inf)), true, np.nan)

    def _true_points(self, stamp: int, depth: np.ndarray, rays: np.ndarray) -> None:
        """Insert the true depth at the network's pixels into a map like that of the predicted points."""
        if self._truth is None:
            self._truth = _poses_by_stamp(self._source, self._tolerance)
        pose = self._truth.get(stamp)
        if pose is None:
            return
        if self._true_voxels is None:
            self._true_voxels = VoxelMap(self._settings.map)
        every = (slice(None, None, self._settings.cloud.stride),) * 2
        z, directions = depth[every].astype(np.float64), rays[every]
        points = torch.from_numpy(np.concatenate([z[..., None] * directions, z[..., None]], -1)[None])
        known = torch.from_numpy(np.isfinite(z))
        placed = world_points(points, torch.from_numpy(pose)[None])[0][known].float()
        white = torch.full_like(placed, 255, dtype=torch.uint8)
        self._true_voxels.insert(Cloud(placed, white, torch.ones(len(placed))), pose)

    def run(self, peak: dict[str, float], events: EventLog, camera: Camera | None) -> Run:
        first = [(stamp, pose, segment) for stamp, (pose, segment, _) in self._first.items()]
        return Run(
            tuple(self._stamps),
            _trajectory(self._final),
            _trajectory(first),
            np.array([delay for _, _, delay in self._first.values()]),
            self._map.cloud().cpu(),
            None if self._true_voxels is None else self._true_voxels.cloud().points.numpy(),
            self._settings.map.voxel_size,
            self._depth,
            self.timing,
            peak,
            events,
            camera or self._focal.camera(),
            camera is not None,
        )


def _poses_by_stamp(source: Source, tolerance: int) -> dict[int, np.ndarray]:
    """Return the true poses at the images, by which true depth is placed."""
    truth = source.truth()
    if truth is None:
        return {}
    stamps = source.stamps
    mine, theirs = associate(stamps, truth.stamps, tolerance)
    return {stamps[i]: truth.T_map_camera[j] for i, j in zip(mine, theirs, strict=True)}


def _trajectory(posed: list[tuple[int, np.ndarray, int]]) -> Trajectory:
    poses = np.array([pose for _, pose, _ in posed]).reshape(-1, 4, 4)
    return Trajectory(tuple(stamp for stamp, _, _ in posed), poses, tuple(segment for _, _, segment in posed))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
