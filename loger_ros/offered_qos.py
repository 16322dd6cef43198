"""The QoS that a bag says its topics were offered with, so that a player publishes them likewise."""

from __future__ import annotations

from typing import Any

LATCHED = ("/tf_static", "/map_points")  # late subscribers get the last one
FOREVER = 9223372036  # s, which ROS writes where there is no limit


def offered(depth: int = 10, reliable: bool = True, latched: bool = False) -> Any:
    """For the package rosbags. ImportError: it is not installed."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(FOREVER, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
