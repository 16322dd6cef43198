"""The network: torch and nothing else. Nothing here imports from above (stream, ros, ...)."""

from loger_ros.model.config import PRESETS, ConfigError, ModelConfig
from loger_ros.model.encoder import Features
from loger_ros.model.loger import LoGeR
from loger_ros.model.memory import Memory
from loger_ros.model.weights import build_model, load_model

__all__ = [
    "PRESETS",
    "ConfigError",
    "Features",
    "LoGeR",
    "Memory",
    "ModelConfig",
    "build_model",
    "load_model",
]
