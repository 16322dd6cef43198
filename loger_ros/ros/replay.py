"""The real node in a process of its own, a player beside it, and what the node leaves on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from loger_ros.ros.dds_profile import apply_large_message_profile
from loger_ros.ros.demo.child import Child
from loger_ros.ros.interface import FRAMES
from loger_ros.ros.player import LEVEL_FRAME, Player, PlayerError
from loger_ros.ros.process import running_ros
from loger_ros.types import Camera, Frame

JOURNAL, MAP, LOG = "trajectory.txt", "cloud.ply", "node.log"
START = 300.0  # s: a full-size network takes long to load


def replay(
    frames: Iterable[Frame],
    camera: Camera | None,
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    rate: float = 0.0,
    patience: float = 300.0,
    sent: Callable[[int], None] = lambda count: None,
) -> int:
    """→ the number of images played. Writes trajectory.txt, cloud.ply and node.log into the folder."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    apply_large_message_profile()
    for name in (JOURNAL, MAP, LOG):  # of a replay before; the node would continue its journal
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    undistort = camera is not None and parameters.get("input.undistort", True)
    node = Child(
        "loger_ros.ros.node",
        {
            **parameters,
            "input.undistort": undistort,
            "input.reliable": True,
            "queue.policy": "keep_all",
            "frames.extrinsic": "tf",
            "frames.level": FRAMES[2] if camera is None or camera.T_base_camera is None else LEVEL_FRAME,
            "output.folder": folder.absolute(),
            "output.journal": JOURNAL,
            "output.map_file": MAP,
            "use_sim_time": True,
        },
        folder / LOG,
    )
    try:
        with running_ros():
            return _play(node, frames, camera, rate, patience, sent)
    finally:
        code = node.stop()  # writes the last poses
        if code:
            raise PlayerError(f"the node ended with code {code}. It said:\n{node.last_words()}")


def _play(
    node: Child,
    frames: Iterable[Frame],
    camera: Camera | None,
    rate: float,
    patience: float,
    sent: Callable[[int], None],
) -> int:
    def gone() -> str:
        if node.code is None:
            return ""
        return f"the node ended with code {node.code}. It said:\n{node.last_words()}"

    player = Player(camera, gone)
    try:
        player.wait_for_node(START)
        count = player.play(frames, patience, rate, sent)
        player.save_map(patience)
        player.end_stream(patience)
        return count
    except PlayerError as error:
        words = "" if node.code is not None else f". The node said:\n{node.last_words()}"
        raise PlayerError(f"{error}{words}") from error
    finally:
        player.close()
