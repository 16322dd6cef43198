"""Procedural places and a ray caster: images with true depth and poses."""

from loger_ros.world.camera import Camera
from loger_ros.world.correspondences import correspondences, patch_centres
from loger_ros.world.effects import PRESETS, Effects
from loger_ros.world.generate import generate
from loger_ros.world.named_sets import NAMED_SETS, named_sequence
from loger_ros.world.sequences import Clip, Sequence, SequenceSpec, render_batch

__all__ = [
    "NAMED_SETS",
    "PRESETS",
    "Camera",
    "Clip",
    "Effects",
    "Sequence",
    "SequenceSpec",
    "correspondences",
    "generate",
    "named_sequence",
    "patch_centres",
    "render_batch",
]
