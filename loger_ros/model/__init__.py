"""The network: torch and nothing else. Nothing here imports from higher layers (stream, ros, ...)."""

from loger_ros.model.catalog import find_checkpoint
from loger_ros.model.checkpoint import CheckpointError
from loger_ros.model.config import PRESETS, ConfigError, ModelConfig
from loger_ros.model.encoder import Features
from loger_ros.model.loger import LoGeR
from loger_ros.model.memory import Memory
from loger_ros.model.verify import CheckpointReport, verify_checkpoint
from loger_ros.model.weights import build_model, load_model

__all__ = [
    "PRESETS",
    "CheckpointError",
    "CheckpointReport",
    "ConfigError",
    "Features",
    "LoGeR",
    "Memory",
    "ModelConfig",
    "build_model",
    "find_checkpoint",
    "load_model",
    "verify_checkpoint",
]
