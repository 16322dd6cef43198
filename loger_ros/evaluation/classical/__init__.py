"""Classical visual odometry, as good as we could make it: what the network has to beat."""

from loger_ros.evaluation.classical.odometry import (
    Settings,
    essential_odometry,
    floor_odometry,
    settings_for,
)

__all__ = ["Settings", "essential_odometry", "floor_odometry", "settings_for"]
