"""A sequence as an endless stream of frames, rendered before they are needed, or kept."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loger_ros.world.sequences import Sequence

AT_END = ("bounce", "repeat", "stop")
MOST_KEPT = 2 << 30  # bytes of frames
BYTES = 3 + 4  # of a pixel: colours and depth


@dataclass(frozen=True, eq=False)
class Shot:
    number: int  # of the frame in the sequence
    image: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32
    T_world_base: np.ndarray  # (4, 4)


class Playback:
    """Renders in its own thread and has at most ``ahead`` frames waiting.

    keep: render each frame once, and all of them before the first is available, for rates that rendering
    cannot reach.
    """

    def __init__(
        self,
        sequence: Sequence,
        at_end: str = "bounce",
        ahead: int = 24,
        device: str = "cpu",
        keep: bool = False,
    ) -> None:
        if at_end not in AT_END:
            raise ValueError(f"at_end must be one of {AT_END}, got {at_end!r}")
        if at_end == "repeat" and not sequence.spec.closed:
            raise ValueError(
                "only a closed sequence can repeat without a jump: set closed, or at_end to bounce"
            )
        pixels = sequence.camera.width * sequence.camera.height
        needed = len(sequence) * pixels * BYTES
        if keep and needed > MOST_KEPT:
            raise ValueError(
                f"keeping {len(sequence)} frames of {sequence.camera.width}x{sequence.camera.height} takes "
                f"{needed >> 20} MB, more than {MOST_KEPT >> 20} MB: lower frames, width or height"
            )
        self._kept: dict[int, Shot] | None = {} if keep else None
        self._sequence = sequence
        self._at_end = at_end
        self._device = device
        self._size = max(1, min(8, ahead // 2, 1_000_000 // pixels))
        self._shots: queue.Queue[Shot | None] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._render, name="playback", daemon=True)
        self._thread.start()

    def take(self, timeout: float = 0.0) -> Shot | None:
        """The next frame, or None if it is not ready in time. Raises StopIteration after the last one."""
        try:
            shot = self._shots.get(timeout=timeout) if timeout > 0 else self._shots.get_nowait()
        except queue.Empty:
            return None
        if shot is None:
            self._stop.set()
            if self._error is not None:
                raise RuntimeError(f"the renderer failed: {self._error}") from self._error
            raise StopIteration
        return shot

    def full(self) -> bool:
        """Whether enough frames are rendered for playing to start, or no more will come."""
        return self._shots.qsize() >= self._shots.maxsize // 2 or not self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _render(self) -> None:
        try:
            if self._kept is not None:
                for numbers in blocks(len(self._sequence), self._size, "stop"):
                    if self._stop.is_set():
                        return
                    self._kept |= {shot.number: shot for shot in self._rendered(numbers)}
            for numbers in blocks(len(self._sequence), self._size, self._at_end):
                kept = self._kept
                shots = self._rendered(numbers) if kept is None else (kept[number] for number in numbers)
                for shot in shots:
                    if not self._put(shot):
                        return
        except Exception as error:  # reported to whoever takes the next frame
            self._error = error
        self._put(None)

    def _rendered(self, numbers: range) -> Iterator[Shot]:
        first = min(numbers)
        clip = self._sequence.render(first, max(numbers) + 1, self._device)
        rgb, depth = clip.rgb.cpu().numpy(), clip.depth.cpu().numpy()
        for number in numbers:
            yield Shot(
                number, rgb[number - first], depth[number - first], self._sequence.T_world_base[number]
            )

    def _put(self, shot: Shot | None) -> bool:
        while not self._stop.is_set():
            try:
                self._shots.put(shot, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def blocks(count: int, size: int, at_end: str) -> Iterator[range]:
    """Runs of frame numbers, forwards or backwards, at most ``size`` long, in playing order."""
    while True:
        for start in range(0, count, size):
            yield range(start, min(start + size, count))
        if at_end == "stop" or (at_end == "bounce" and count == 1):
            return
        if at_end == "bounce":  # neither end is shown twice
            for start in range(count - 2, 0, -size):
                yield range(start, max(start - size, 0), -1)
