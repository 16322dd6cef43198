"""The causal engine between frames and placed chunks. Knows the model, not ROS."""

from loger_ros.stream.reconstructor import Reconstructor, Snapshot
from loger_ros.stream.results import Result

__all__ = ["Reconstructor", "Result", "Snapshot"]
