"""What was heard, as a rosbag2: messages go into it as the bytes in which they came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loger_ros.ros.interface import Topic

FOREVER = 9223372036  # s, which ROS writes where there is no limit


class BagRecorder:
    def __init__(self, folder: Path) -> None:
        """ImportError: rosbags is not installed."""
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_HUMBLE)  # its definitions are still those of today
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
                offered_qos_profiles=[_offered(topic)],
            )
        self._writer.write(self._connections[topic.name], received, data)

    def close(self) -> None:
        self._writer.close()


def _offered(topic: Topic) -> Any:
    """So that a player publishes latched topics latched."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(FOREVER, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        topic.depth,
        QosReliability.RELIABLE if topic.reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if topic.transient_local else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
