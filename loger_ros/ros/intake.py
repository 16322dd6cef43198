"""Turns image messages into frames in the queue, in the thread that receives the images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from loger_ros.events import EventLog
from loger_ros.ros.camera_info import camera_of
from loger_ros.ros.config import NodeConfig
from loger_ros.ros.images import ImageError, rgb_of, rgb_of_compressed
from loger_ros.ros.statistics import Statistics
from loger_ros.stream import FrameQueue
from loger_ros.types import Camera, Frame

FIX_CAMERA_INFO = "Fix camera_info, or set input.undistort to false"
IMAGE_MODES = 8  # number of modes whose calibrations are remembered
FAR_AWAY = 60.0  # s between an image's stamp and the clock: a larger difference is reported
LEAP = 10.0  # s off the clock: TF listeners refuse what is this much older than their newest transform
GLANCE = 64  # approximate number of rows or columns of an image that are checked
LEAST_CONTRAST = 16  # of 255; an image that fills only 12 of 16 bits has less


class Intake:
    def __init__(
        self,
        config: NodeConfig,
        queue: FrameQueue,
        events: EventLog,
        statistics: Statistics,
        *,
        mounted: Callable[[str], bool],
        now: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        """mounted: whether the mounting of a camera frame is known. now: the node's clock in nanoseconds."""
        self.rectified = False  # whether images are already rectified
        self._config = config
        self._queue = queue
        self._events = events
        self._statistics = statistics
        self._mounted, self._now, self._wake = mounted, now, wake
        self._read = rgb_of if config.input.image_transport == "raw" else rgb_of_compressed
        self.paused = False
        self._identity = threading.Lock()  # guards frame_id: a reset may come while an image is processed
        self.frame_id = config.frames.camera
        self.camera: Camera | None = None  # as camera_info describes it
        self._cameras: dict[tuple[int, ...], Camera] = {}  # by the shape of the images that they came with
        self._camera_refused = False
        self._shape: tuple[int, ...] = ()  # of the newest image
        # the shape of the images when camera_info came; (): that of images to come; None: it must come again
        self._calibrated: tuple[int, ...] | None = None
        self._first_image: float | None = None  # monotonic
        self._away: float | None = None  # s that the newest stamp was behind the clock

    def image(self, message: Any) -> None:
        self._statistics.happened("image")
        if self.paused:
            self._drop("paused")
            return
        started = time.perf_counter()
        try:
            self._take(message)
        except ImageError as error:
            self._drop("not_readable", _stamp(message), str(error))
        except Exception as error:  # the next image may be fine
            self._drop("intake_failed", _stamp(message), f"{type(error).__name__}: {error}")
        self._statistics.took("intake", time.perf_counter() - started)

    def camera_info(self, message: Any) -> None:
        self._statistics.happened("camera_info")
        try:
            camera = camera_of(message, self.rectified)
        except ValueError as error:
            self._camera_refused = True
            text = f"camera_info is not used: {error}. {FIX_CAMERA_INFO}"
            self._events.add("camera_info_unusable", _stamp(message), text)
            return
        if camera is None:
            text = "camera_info holds no calibration (zero size or focal length) and is not used"
            self._events.add("camera_info_empty", _stamp(message), text)
            return
        fits = self._shape and same_aspect(camera, self._shape)  # otherwise it is for images to come
        self.camera, self._calibrated = camera, self._shape if fits else ()
        if fits:
            self._remember(camera)

    def camera_for(self, shape: tuple[int, ...]) -> Camera | None:
        """Return the camera that came with images of that shape, or else the newest one."""
        return self._cameras.get(shape, self.camera)

    @property
    def wants_camera_info(self) -> bool:
        """Whether camera_info is missing, or is for images of another size or from before a reset."""
        return self._config.input.undistort and (self.camera is None or self._shape != self._calibrated)

    def forget(self) -> int:
        """Let the next image and camera_info say which camera it is. Return how many frames are discarded."""
        with self._identity:
            self.frame_id = self._config.frames.camera
            self._calibrated = None
            return self._queue.clear()

    def _remember(self, camera: Camera) -> None:
        self._cameras.pop(self._shape, None)
        self._cameras[self._shape] = camera
        if len(self._cameras) > IMAGE_MODES:
            del self._cameras[next(iter(self._cameras))]

    def _take(self, message: Any) -> None:
        stamp, frame_id = _stamp(message), self._config.frames.camera or message.header.frame_id
        era = self._queue.era  # a reset ends it, and discards frames from before
        if self.frame_id and frame_id != self.frame_id:
            text = (
                f"images of frame {frame_id!r} arrive on the topic of {self.frame_id!r} and are dropped: "
                "give each camera its own topic, or set frames.camera; if the frame was renamed, call ~/reset"
            )
            self._drop("other_camera", stamp, text)
            return
        if not self._mounted(frame_id):
            frames = self._config.frames
            edge = f"{frames.base} → {frame_id or '(no frame_id)'}"
            if frames.level not in ("", frames.base):
                edge += f", and from {frames.level} (frames.level)"
            text = (
                f"images are dropped until this transform is known: {edge}. Publish it on "
                "/tf_static (robot_state_publisher or static_transform_publisher; /tf is not used), or set "
                "frames.extrinsic to parameters, and frames.camera_xyz and frames.camera_rpy"
            )
            self._drop("no_extrinsic", stamp, text)
            return
        if self._waits_for_calibration(stamp):
            self._drop("waiting_for_camera_info")
            return
        now = self._now()
        away = (now - stamp) * 1e-9
        if not stamp and away > LEAP:
            text = "an image without a stamp (0) is dropped: make the camera driver fill in header.stamp"
            self._drop("no_stamp", stamp, text)
            return
        if now and self._leaps(away):
            side, harm = (
                ("behind", "the memory would start over for it, and again for the next one")
                if away > 0
                else ("ahead of", "/tf would ignore everything until that time")
            )
            text = (
                f"an image is stamped {abs(away):.0f} s {side} the clock, unlike the one before, and is "
                f"dropped: {harm}. Fix the camera's clock, unless a bag or a simulation has started over"
            )
            self._drop(f"stamped_{side.split()[0]}", stamp, text)
            return
        if now and abs(away) > FAR_AWAY:  # a simulated clock begins with 0, which the node reports elsewhere
            text = (
                f"images are stamped {abs(away):.0f} s {'behind' if away > 0 else 'ahead of'} the clock, so "
                "reported ages are wrong: to play a bag, set use_sim_time and play it with --clock; "
                "otherwise fix the camera's clock"
            )
            self._events.add("clocks_differ", stamp, text)
        if self._queue.offer(stamp, lambda: self._frame(message, stamp, frame_id, era), era):
            self._wake()

    def _frame(self, message: Any, stamp: int, frame_id: str, era: int) -> Frame:
        image = self._read(message, self._config.input.max_pixels)
        self._shape = image.shape
        camera = self.camera
        if self._calibrated == () and camera is not None and same_aspect(camera, image.shape):
            self._calibrated = image.shape  # camera_info came before the first image
            self._remember(camera)
        self._look_at(image, getattr(message, "encoding", ""), stamp)
        with self._identity:
            if era == self._queue.era:
                self.frame_id = frame_id
        return Frame(stamp, image)

    def _leaps(self, away: float) -> bool:
        """Whether it is far from the clock and the one before was not, on that side. A second is believed.

        So is the very first image if it is behind (a bag played without its clock), and one that is about as
        far away as the one before. A replay must lose nothing.
        """
        before, self._away = self._away, away
        if abs(away) <= LEAP or self._config.queue.policy == "keep_all":
            return False
        if before is None:
            return away < 0
        return not (abs(before) > LEAP and before * away > 0) and abs(away - before) > LEAP

    def _waits_for_calibration(self, stamp: int) -> bool:
        """Whether to drop the image because the stream should not start without camera_info."""
        if self.camera is not None or self._camera_refused or not self._config.input.undistort:
            return False
        if self._statistics.counts["frame"]:
            return False
        now = time.monotonic()
        self._first_image = self._first_image or now
        if now - self._first_image < self._config.input.camera_info_timeout:
            return True
        text = (
            "no usable camera_info came within input.camera_info_timeout: images are used as they are until "
            "one comes. To skip the wait, set input.undistort to false"
        )
        self._events.add("no_camera_info", stamp, text)
        return False

    def _look_at(self, image: np.ndarray, encoding: str, stamp: int) -> None:
        every = 1 + min(image.shape[:2]) // GLANCE
        some = image[::every, ::every, 1]
        low, high = int(some.min()), int(some.max())
        if high - low < LEAST_CONTRAST:
            cure = "check for a cap on the lens, and check the exposure"
            if encoding.endswith("16"):
                cure = f"if the camera fills only 10 or 12 of 16 bits, have it send 8; otherwise {cure}"
            text = f"images show almost nothing, their brightness is only {low} to {high} of 255: {cure}"
            self._events.add("nothing_to_see", stamp, text)

    def _drop(self, cause: str, stamp: int = 0, message: str = "") -> None:
        self._statistics.dropped[cause] += 1
        if message:
            self._events.add(cause, stamp, message)


def same_aspect(camera: Camera, shape: tuple[int, ...]) -> bool:
    """Whether images of that shape may be another mode of the camera."""
    height, width = shape[:2]
    return abs(width * camera.height - height * camera.width) <= max(width, height)


def _stamp(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
