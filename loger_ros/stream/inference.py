"""Running the network on one chunk, and what to do when that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from loger_ros.config import StreamConfig
from loger_ros.events import EventLog
from loger_ros.failures import is_out_of_memory, reason_of
from loger_ros.stream.network import Network
from loger_ros.stream.prepare import network_input
from loger_ros.types import Prediction

Result = TypeVar("Result")


class ChunkLost(Exception):
    """The network has no answer for these frames, not even with a new memory."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer for one chunk of n frames, in the chunk's frame, and in metres if ``unit`` is right."""

    T_chunk_camera: np.ndarray  # (n, 4, 4) float64, finite
    local_points: Tensor  # (n, H, W, 3) in each frame's camera
    confidence: Tensor  # (n, H, W, 1) logits
    mean_confidence: np.ndarray  # (n,) float64 in [0, 1]
    memory: Any
    memory_lost: bool  # only a new memory led to usable poses

    def of_cameras(self, R_view_camera: Sequence[np.ndarray | None], home: np.ndarray | None) -> Answer:
        """Return the answer for the cameras themselves instead of their rotated views.

        home: the rotation of the segment's first view, whose axes all of its chunks use.
        """
        if home is None and all(turn is None for turn in R_view_camera):
            return self
        known = np.stack([np.eye(3) if turn is None else turn for turn in (home, *R_view_camera)])
        first, turns = known[0], known[1:]
        poses = self.T_chunk_camera.copy()
        poses[:, :3, :3] = first.T @ poses[:, :3, :3] @ turns
        poses[:, :3, 3] = poses[:, :3, 3] @ first
        back = torch.from_numpy(turns).to(self.local_points).mT
        # As columns: as rows the product takes several times as long on a CPU.
        points = (back @ self.local_points.flatten(1, 2).mT).mT
        points = points.unflatten(1, self.local_points.shape[1:3])
        return replace(self, T_chunk_camera=poses, local_points=points)


class Inference:
    def __init__(
        self,
        model: Network,
        config: StreamConfig,
        events: EventLog,
        *,
        fast_weights: bool,
        sliding_window: bool,
    ) -> None:
        self._model = model
        self._iterations = config.iterations
        self._events = events
        self._options: dict[str, Any] = {
            "chunk_size": config.chunk_size,
            "overlap": config.overlap,
            "fast_weights": fast_weights,
            "sliding_window": sliding_window,
        }

    @torch.no_grad()
    def encode(self, images: list[Tensor], stamp: int) -> list[Any]:
        """Images (H, W, 3) uint8 → features, one per image."""

        def encode() -> Any:
            return self._model.encode(network_input(images, self._model.device))

        features = self._despite_full_memory(encode, stamp)
        return [features[:, i : i + 1] for i in range(len(images))]

    @torch.no_grad()
    def predict(
        self, features: Sequence[Any], memory: Any, stamp: int, unit: float, **updates: bool
    ) -> Answer:
        """Run one chunk. Raises ChunkLost if neither the memory nor a new one leads to usable poses.

        unit: metres per unit of the network. updates: update_memory and update_fast_weights of its ``step``.
        """
        joined = type(features[0]).cat(list(features))
        for attempt, known in enumerate((memory, self._model.initial_memory())):

            def step(known: Any = known) -> tuple[Prediction, Any]:
                return self._step(joined, known, updates)

            prediction, after = self._despite_full_memory(step, stamp)
            assert prediction.camera_poses is not None
            T_chunk_camera = prediction.camera_poses[0].double().cpu().numpy()
            if np.isfinite(T_chunk_camera).all():
                T_chunk_camera[:, :3, 3] *= unit
                return self._answer(prediction, T_chunk_camera, after, attempt > 0, stamp, unit)
            if attempt == 0:
                message = "the answer of the network is not finite; trying again with a new memory"
                self._events.add("prediction_not_finite", stamp, message)
            del prediction, after  # there may not be room for two of them
        raise ChunkLost(
            "the answer of the network is not finite with a new memory either: "
            "check the images, the weights and the dtype"
        )

    def _answer(
        self,
        prediction: Prediction,
        T_chunk_camera: np.ndarray,
        memory: Any,
        memory_lost: bool,
        stamp: int,
        unit: float,
    ) -> Answer:
        assert prediction.local_points is not None
        local_points = prediction.local_points[0]
        if unit != 1:
            local_points = local_points * unit
        if not bool(local_points.sum().isfinite()):  # takes a tenth of the time of checking each point
            self._count_missing(local_points, stamp)
        confidence = (
            torch.zeros_like(local_points[..., :1])  # a model without confidence: even odds everywhere
            if prediction.confidence is None
            else prediction.confidence[0]
        )
        means = confidence.sigmoid().nan_to_num().flatten(1).mean(1).double().cpu().numpy()
        return Answer(T_chunk_camera, local_points, confidence, means, memory, memory_lost)

    def _count_missing(self, local_points: Tensor, stamp: int) -> None:
        missing = ~local_points.isfinite().all(-1)
        if bool(missing.any()):
            share = float(missing.float().mean())
            message = f"{share:.1%} of the points of a chunk are not finite and will not reach the map"
            self._events.add("points_not_finite", stamp, message)

    def _step(self, features: Any, memory: Any, updates: dict[str, Any]) -> tuple[Prediction, Any]:
        for _ in range(self._iterations - 1):
            _, memory = self._model.step(features, memory, outputs=(), **self._options)
        return self._model.step(features, memory, **updates, **self._options)

    def _despite_full_memory(self, run: Callable[[], Result], stamp: int) -> Result:
        """Run, and once more with caches freed if memory is full; others may have freed theirs by then."""
        for attempt in range(2):
            try:
                return run()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = reason_of(error)
            # Outside the handler: the traceback holds the tensors of the failed run.
            if attempt == 0:
                message = f"{reason}. Trying again with caches freed"
                self._events.add("out_of_memory", stamp, message)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        raise ChunkLost(f"even with caches freed, {reason}")
