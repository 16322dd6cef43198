"""Runs the real node in a process of its own with a player beside it; the node leaves its files on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loger_ros.ros.child import Child
from loger_ros.ros.dds_profile import apply_large_message_profile
from loger_ros.ros.installation import keep_to_ourselves
from loger_ros.ros.interface import FRAMES
from loger_ros.ros.player import LEVEL_FRAME, Player, PlayerError
from loger_ros.ros.process import running_ros
from loger_ros.types import Camera, Frame

JOURNAL, MAP, LOG = "trajectory.txt", "cloud.ply", "node.log"
START = 300.0  # s: a full-size network takes long to load
PATIENCE = 300.0  # s within which the node must finish at least one image


def replay(
    frames: Iterable[Frame],
    camera: Camera | None,
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    rate: float = 0.0,
    sent: Callable[[int], None] = lambda count: None,
) -> int:
    """Return the number of images played. Writes trajectory.txt, cloud.ply and node.log into the folder."""
    keep_to_ourselves()
    apply_large_message_profile()
    undistort = camera is not None and parameters.get("input.undistort", True)
    given = {
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
    }
    with running_ros():
        player = Player(camera)
        try:
            player.refuse_company()
            with _node(given, folder) as node:
                return _play(player, node, frames, rate, sent)
        finally:
            player.close()
    raise KeyboardInterrupt  # a signal ended the block, so the replay is incomplete


@contextmanager
def _node(parameters: dict[str, object], folder: Path) -> Iterator[Child]:
    for name in (JOURNAL, MAP, LOG):  # of an earlier replay, whose journal the node would continue
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    node = Child("loger_ros.ros.node", parameters, folder / LOG)
    try:
        yield node
    finally:
        code = node.stop()  # writes the last poses
        if code:
            raise PlayerError(f"the node ended with code {code}. Its last output:\n{node.last_words()}")


def _play(
    player: Player, node: Child, frames: Iterable[Frame], rate: float, sent: Callable[[int], None]
) -> int:
    def gone() -> str:
        if node.code is None:
            return ""
        return f"the node ended with code {node.code}. Its last output:\n{node.last_words()}"

    try:
        player.wait_for_node(START, gone)
        count = player.play(frames, PATIENCE, rate, sent)
        player.save_map(PATIENCE)
        player.end_stream(PATIENCE)
        return count
    except PlayerError as error:
        words = "" if node.code is not None else f". The last output of the node:\n{node.last_words()}"
        raise PlayerError(f"{error}{words}") from error
