"""Records received messages to a rosbag2, as the bytes in which they came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loger_ros.bags import offered
from loger_ros.ros.interface import Topic


class BagRecorder:
    def __init__(self, folder: Path) -> None:
        """Raises ImportError if rosbags is not installed."""
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_HUMBLE)  # its definitions are still current
        self._writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def write(self, topic: Topic, data: bytes, received: int) -> None:
        """data: CDR; received: ns."""
        if topic.name not in self._connections:
            self._connections[topic.name] = self._writer.add_connection(
                f"/{topic.name.lstrip('/')}",
                topic.type,
                typestore=self._store,
                offered_qos_profiles=[offered(topic.depth, topic.reliable, topic.transient_local)],
            )
        self._writer.write(self._connections[topic.name], received, data)

    def close(self) -> None:
        self._writer.close()
