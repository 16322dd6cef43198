"""The causal engine that turns frames into placed chunks. It knows the model, not ROS."""

from loger_ros.stream.queue import FrameQueue
from loger_ros.stream.reconstructor import Reconstructor
from loger_ros.stream.results import Result
from loger_ros.stream.state import Snapshot

__all__ = ["FrameQueue", "Reconstructor", "Result", "Snapshot"]
