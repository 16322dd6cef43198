"""Classical visual odometry, as well as we can do it: what the network has to beat."""

from loger_ros.evaluation.classical.odometry import (
    Settings,
    essential_odometry,
    floor_odometry,
    settings_for,
)

__all__ = ["Settings", "essential_odometry", "floor_odometry", "settings_for"]
