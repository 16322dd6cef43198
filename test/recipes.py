"""A recipe of a few seconds, and commands that train by it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import loger_ros
from loger_ros.cli import train

RECIPE = """
seed: 3
model:
  patch_size: 7
  encoder: {img_size: 28, dim: 32, depth: 1, num_heads: 2, num_registers: 2}
  decoder: {dim: 32, depth: 4, num_heads: 2, num_registers: 2}
  heads: {dim: 32, depth: 1, num_heads: 2, camera_dim: 32}
  ttt_insert_after: [0]
  attn_insert_after: [2]
  ttt_head_dim: 16
clips: {count: 3, frames: 16, render_size: [28, 21], image_size: [28, 21]}
carried: {pitch: [0, 20]}
validation: {every: 100, sequences: 1, frames: 20}
stages:
  pairs: {frames: 240, frames_per_step: 8, chunk_sizes: [2]}
  memory: {frames: 240, frames_per_step: 12, chunk_sizes: [2, 3], length: 6, short_tails: 0.5,
           strides: [1, 2], fast_weights: true, sliding_window: true, chained_weight: 0.5}
"""


def command(recipe: Path, out: Path, dies_at: int = 0) -> list[str]:
    """``dies_at``: the process kills itself in that step, some steps after it saved for the last time."""
    code = (
        "import os, signal, sys; from loger_ros.cli import main; from loger_ros.training import trainer\n"
        "learn, save, steps = trainer.Trainer._learn, trainer.Trainer.save, [0]\n"
        "def mortal(self, *arguments):\n"
        "    steps[0] += 1\n"
        f"    if steps[0] == {dies_at}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return learn(self, *arguments)\n"
        f"if {dies_at}:\n"
        "    trainer.Trainer._learn, trainer.SAVE_EVERY = mortal, 0\n"
        "    trainer.Trainer.save = lambda self: save(self) if self.step % 7 == 0 else None\n"
        "sys.exit(main())"
    )
    return [sys.executable, "-c", code, "train", str(recipe), "--out", str(out), "--device", "cpu"]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(loger_ros.__file__).parents[1])}


def arguments(recipe: Path, out: Path, **changes) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    given = parser.parse_args([str(recipe), "--out", str(out), "--device", "cpu"])
    return argparse.Namespace(**{**vars(given), **changes})
