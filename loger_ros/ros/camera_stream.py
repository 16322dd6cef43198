"""One camera: takes its frames through the network, and looks after its poses, map and files.

Runs in the worker's thread, except for what says otherwise and for its end, which comes after that thread's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from loger_ros.events import EventLog
from loger_ros.failures import loses_gpu, reason_of
from loger_ros.mapping.cloud import Cloud, cloud_of
from loger_ros.mapping.mapper import Mapper
from loger_ros.mapping.point_files import write_pcd, write_ply
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.intake import FIX_CAMERA_INFO, Intake, same_aspect
from loger_ros.ros.mounting import Mounted
from loger_ros.ros.odometry import Odometer
from loger_ros.ros.outputs import Outputs, placed
from loger_ros.ros.recording import Recording
from loger_ros.ros.statistics import Statistics
from loger_ros.ros.transforms import Mounting
from loger_ros.stream import FrameQueue, Reconstructor
from loger_ros.stream.lens import same_lens, scaled
from loger_ros.types import Camera, Frame, PosedFrame, Update

COLLECTED = 6  # frames that go into the map together


class CameraStream:
    def __init__(
        self,
        name: str,
        config: NodeConfig,
        model: Any,
        events: EventLog,
        statistics: Statistics,
        outputs: Outputs,
        *,
        journal: Path | None,
        mounting: Callable[[str], Mounting | None],
        now: Callable[[], int],
        too_late: Callable[[int], bool],
        left_behind: Callable[[int], bool],
        wake: Callable[[], None],
    ) -> None:
        """mounting: returns that of a camera frame, or None while it is not known.

        too_late: whether the clock has jumped back from that stamp, which is the newest one. left_behind: the
        same for a stamp that may be older.
        """
        self.name = name
        self.config = config
        self.events = events
        self.statistics = statistics
        self.outputs = outputs
        self._model = model
        self.mounted = Mounted(mounting)
        self._too_late, self._left_behind = too_late, left_behind
        self._odometer = Odometer(np.eye(4))  # mounted before the first frame
        # First, because there may be no memory for a large map.
        self._map = Mapper(config.map, config.cloud, events, model.device, COLLECTED)
        self._recording = (
            Recording(journal, round(config.output.journal_limit * 1e6), self._odometer, events)
            if journal
            else None
        )
        self._map_changed = False
        self.gpu_lost = ""  # why this process cannot use the GPU any more
        self._recon: Reconstructor | None = None
        self._camera: Camera | None = None  # that the Reconstructor uses
        # what it was made from: the shape of the image, and camera_info
        self._source: tuple[tuple[int, ...], Camera | None] = ((), None)
        self.queue = FrameQueue(config.queue, events, statistics.dropped)
        self.intake = Intake(
            config, self.queue, events, statistics, mounted=self.mounted.find, now=now, wake=wake
        )

    # ---- the worker's side ------------------------------------------------------------------------

    def step(self) -> bool:
        """Process the oldest waiting frame, if there is one. Return whether more are waiting."""
        frame = self.queue.get(timeout=0)
        if frame is not None:
            with self._failures_reported(frame.stamp):
                self._push(frame)
        with self._failures_reported(frame.stamp if frame else self._map.newest):
            if frame is not None:
                self.outputs.taken(frame.stamp)
            if self._map_changed and self.outputs.map_due():
                self._publish_map()
            if self.outputs.path_due and not self._left_behind(self.outputs.path_stamp):
                self.outputs.path()
        return len(self.queue) > 0

    @contextmanager
    def _failures_reported(self, stamp: int) -> Iterator[None]:
        """Report a failure of an image, the network or ROS, and go on: the next frame may work."""
        try:
            yield
        except Exception as error:
            self.events.add("frame_failed", stamp, reason_of(error))
            self.gpu_lost = self.gpu_lost or loses_gpu(error, self._model.device)

    def _push(self, frame: Frame) -> None:
        started = time.perf_counter()
        try:
            self._update_camera(frame)
            if self._recon is None:
                if self.mounted.now is not None:
                    self._odometer.mount(self.mounted.now.T_base_camera)
                self._recon = self._new_reconstructor()
            with self._losses_counted(self._recon):
                updates = self._recon.push(frame)
        except Exception:
            self.statistics.dropped["failed"] += 1
            raise
        self.statistics.happened("frame")
        self.statistics.took("push", time.perf_counter() - started)
        for update in updates:
            self._deliver(update)
            self.statistics.took("chunk" if update.final_count else "preview", time.perf_counter() - started)

    @contextmanager
    def _losses_counted(self, recon: Reconstructor) -> Iterator[None]:
        """Count the frames of chunks that fail, even if that raises an exception."""
        before = recon.lost
        try:
            yield
        finally:
            self.statistics.counts["without_pose"] += recon.lost - before

    def _new_reconstructor(self) -> Reconstructor:
        return Reconstructor.from_config(
            self._model,
            self.config.stream,
            camera=self._camera,
            record=self._recording,
            events=self.events,
            keep_results=False,
        )

    def _update_camera(self, frame: Frame) -> None:
        """Apply what camera_info has said since the frame before; another lens ends the segment."""
        source, before = (frame.image.shape, self.intake.camera_for(frame.image.shape)), self._source
        if self._recon is not None and source[0] == before[0] and source[1] is before[1]:
            return
        camera = self._camera_of(frame)
        same_size = source[0] == before[0]  # images of another size start a new segment anyway
        if self._recon is not None and not (same_size and same_lens(camera, self._camera)):
            if same_size:
                text = (
                    "camera_info describes another lens than before; it is used from now on, in a new segment"
                )
                self.events.add("camera_changed", frame.stamp, text)
                with self._losses_counted(self._recon):
                    updates = self._recon.flush()
                for update in updates:
                    self._deliver(update)
            self._recon.use_camera(camera)
        self._source, self._camera = source, camera

    def _camera_of(self, frame: Frame) -> Camera | None:
        """Return the camera as mounted. camera_info may be for another image mode of the same camera."""
        camera = self.intake.camera_for(frame.image.shape) if self.config.input.undistort else None
        if camera is None:
            return None
        if self.mounted.now is not None:
            camera = replace(camera, T_base_camera=self.mounted.now.T_level_camera)
        height, width = frame.image.shape[:2]
        if (camera.width, camera.height) == (width, height):
            return camera
        if same_aspect(camera, frame.image.shape):
            return scaled(camera, (width, height))
        text = (
            f"images have {width}x{height} pixels, but camera_info is for {camera.width}x{camera.height}; "
            f"images are used as they are. {FIX_CAMERA_INFO}"
        )
        self.events.add("camera_info_unusable", frame.stamp, text)
        return None

    @property
    def lens_unknown(self) -> str:
        """Why the network may see another field of view than it was trained with; empty if it does not.

        Any thread may ask.
        """
        if self._recon is None or self._camera is not None or not self.config.stream.field_of_view:
            return ""
        if not self.config.input.undistort:
            return (
                "input.undistort is false, so images are not adapted to stream.field_of_view; "
                "set input.undistort to true"
            )
        if self.intake.camera is not None:
            return "camera_info does not fit the images; it must be for the same camera and image mode"
        return "the camera's intrinsics are not known; publish them as camera_info"

    @property
    def mounted_otherwise(self) -> list[str]:
        """Reasons to doubt the known mounting. Any thread may ask."""
        taught = getattr(self._model, "carried", None)
        in_use = self._recon is None or self._camera is not None
        return self.mounted.doubts(self.config.stream, taught, self.config.frames.extrinsic == "tf", in_use)

    def _deliver(self, update: Update) -> None:
        late = bool(update.frames) and self._too_late(update.frames[-1].stamp)
        if late:
            text = "poses from before the clock jumped back are kept in the journal but no longer published"
            self.events.add("clock_jumped", update.frames[-1].stamp, text)
        for motion in self._odometer.follow(update):
            if not late:
                self.outputs.motion(motion)
                self.statistics.happened("odometry")
        final = update[: update.final_count]
        if final.frames:
            if not late:
                self._send_poses(final.frames)
            self._map_changed |= bool(self._map.add(final))
            if not late:
                self._send_points(final)
        camera = self._recon.camera if self._recon else None
        # The last update before a change of size comes when the camera already has the new size.
        pictured = camera is None or camera_took(camera, update)
        if update.frames and not late and pictured:
            level = None if self.mounted.now is None else self.mounted.now.T_level_camera
            self.outputs.pictures(update, self.intake.frame_id, camera, level)

    def _send_poses(self, frames: Sequence[PosedFrame]) -> None:
        poses = self._odometer.in_map(frames)
        covariances = self._odometer.covariances(frames, poses)
        for frame, pose, covariance in zip(frames, poses, covariances, strict=True):
            self.outputs.pose(frame.stamp, pose, covariance)
        self.outputs.path()

    def _send_points(self, final: Update) -> None:
        T_map_world = self._odometer.T_map_world
        if self.outputs.points_wanted and T_map_world is not None:
            self.outputs.points(cloud_of(final, self.config.cloud), T_map_world, final.frames[-1].stamp)

    def _publish_map(self) -> None:
        self._map.settle()
        if self._left_behind(self._map.newest):
            return
        T_map_world = self._odometer.T_map_world
        place = np.eye(4) if T_map_world is None else T_map_world  # after a reset: nothing to place
        self.outputs.map_points(self._map.cloud, place, self._map.newest)
        self._map_changed = False

    # ---- what the worker is asked to do -----------------------------------------------------------

    def reset(self) -> None:
        """Start memory, map and path over, with the robot at the origin of the map; odometry goes on."""
        self.mounted.forget()
        self.statistics.lost("reset", self.intake.forget())
        if self._recon is not None:
            self.statistics.counts["without_pose"] += self._recon.unsettled
            self._recon.reset()
            self._recon = None
        if self._recording is not None:
            self._recording.start_over()
        self._odometer.restart()
        self._map.clear()
        self._map_changed = True
        self.outputs.forget_path()

    def place(self, T_map_base: np.ndarray) -> None:
        """Set where in the map the robot is now."""
        self._odometer.place(T_map_base)
        if self._recording is not None:
            self._recording.new_segment()
        self.outputs.forget_path()
        self._map_changed = True

    def map_cloud(self) -> Cloud:
        """Return a copy of the map so far."""
        cloud = self._map.cloud().cpu()
        T_map_world = self._odometer.T_map_world
        return cloud if T_map_world is None else placed(cloud, T_map_world)

    @property
    def journals(self) -> tuple[Path, ...]:
        """Files that nothing else may write."""
        return self._recording.files if self._recording is not None else ()

    def save_trajectory(self, path: Path) -> int:
        """Return the number of poses. Any thread may call it."""
        if self._recording is None:
            raise ValueError("there is no journal to save from: set output.journal")
        return self._recording.save(path)

    def settings_changed(self, config: NodeConfig) -> None:
        """Apply the settings that take effect while it runs. Any thread may call it."""
        self.config = config
        self.queue.settings_changed(config.queue)
        self._map.settings_changed(config.cloud)
        self.outputs.settings_changed(config)

    def finish(self, in_a_hurry: bool) -> None:
        """Record the last poses, after processing the short last chunk unless in a hurry."""
        if count := self.queue.clear():
            self.statistics.lost("end", count)
            self.events.add("images_given_up", 0, f"{count} images that waited for the network get no pose")
        if self._recon is None:
            return
        try:
            if in_a_hurry:
                if count := self._recon.unsettled:
                    self.statistics.counts["without_pose"] += count
                    text = f"there is no time to process the last chunk: {count} frames get no final pose"
                    self.events.add("last_chunk_given_up", self._map.newest, text)
                self._recon.reset()
            else:
                with self._losses_counted(self._recon):
                    updates = self._recon.flush()
                for update in updates:
                    self._deliver(update)
            self.outputs.path(at_once=True)
        except Exception as error:
            self.events.add("last_chunk_lost", 0, reason_of(error))

    def close(self) -> None:
        self.queue.close()
        if self._recording is not None:
            self._recording.close()


def camera_took(camera: Camera, update: Update) -> bool:
    """Whether the images of the update have the size of the camera."""
    return (camera.height, camera.width) == tuple(update.images.shape[1:3])


def write_map(path: Path, cloud: Cloud) -> None:
    (write_pcd if path.suffix == ".pcd" else write_ply)(path, cloud)
