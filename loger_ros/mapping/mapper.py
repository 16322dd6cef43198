"""Puts final frames into the bounded map: selects them, and inserts several at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from loger_ros.config import CloudConfig, MapConfig
from loger_ros.events import EventLog
from loger_ros.failures import is_of_gpu, reason_of
from loger_ros.mapping.cloud import Cloud, cloud_of
from loger_ros.mapping.pace import Pace
from loger_ros.mapping.voxel_map import VoxelMap
from loger_ros.types import PosedFrame, Update


class Mapper:
    def __init__(
        self,
        config: MapConfig,
        cloud: CloudConfig,
        events: EventLog | None = None,
        device: torch.device | str = "cpu",
        together: int = 1,
    ) -> None:
        """together: number of frames inserted at once, which is hardly more work than inserting one."""
        self._cloud, self._interval, self._together = cloud, config.interval, together
        self._events = events or EventLog()
        self._voxels = VoxelMap(config, device)
        self._pace = Pace(config.interval)
        self._waiting: list[Update] = []  # one frame each
        self.newest = 0  # ns, of the newest frame in the map

    def add(self, final: Update) -> set[int]:
        """Add frames; return the stamps of those that were due. A full GPU is an event, not an exception."""
        if self._waiting and self._waiting[0].images.shape[1:] != final.images.shape[1:]:
            self.settle()
        try:
            due = self._pace.due(final)
        except Exception as error:
            self._failed(final.frames, error)
            return set()
        self._waiting += due
        if len(self._waiting) >= self._together:
            self.settle()
        return {update.frames[0].stamp for update in due}

    def settle(self) -> None:
        """Insert the frames that wait for others."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self.newest = waiting[-1].frames[-1].stamp
        try:
            update = Update.joined(waiting)
            self._voxels.insert(cloud_of(update, self._cloud), update.frames[-1].T_map_camera)
        except Exception as error:
            self._failed([frame for update in waiting for frame in update.frames], error)
            return
        if self._voxels.beyond:
            text = (
                f"points farther than {self._voxels.reach:.0f} m from where the stream began are not in the "
                "map; raise map.voxel_size"
            )
            self._events.add("map_ends", self.newest, text)

    def _failed(self, frames: Sequence[PosedFrame], error: Exception) -> None:
        """Report it; poses and points continue."""
        reason = reason_of(error, "lower map.max_voxels or stream.resolution, or raise cloud.stride")
        self._events.add("map_failed", frames[-1].stamp, f"{len(frames)} frames are not in the map: {reason}")
        if is_of_gpu(error):  # the GPU may be lost
            raise error

    def cloud(self) -> Cloud:
        """Return the whole map, including the frames that wait for others."""
        self.settle()
        return self._voxels.cloud()

    def clear(self) -> None:
        self._waiting, self._pace = [], Pace(self._interval)
        self._voxels.clear()

    def settings_changed(self, cloud: CloudConfig) -> None:
        self._cloud = cloud
