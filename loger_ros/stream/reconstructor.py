"""Frames in, poses and points out, one chunk at a time.

It knows nothing about threads, topics or clocks: the caller of ``push`` decides when. At any time it holds
the frames of one growing chunk, the memory, and the predictions of the frames shared with the next chunk;
nothing grows with the stream unless ``keep_results`` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from loger_ros.config import StreamConfig
from loger_ros.events import EventLog
from loger_ros.failures import is_out_of_memory, reason_of
from loger_ros.model.carried import Carried
from loger_ros.stream.align import HOME, Aligner, Placement, join
from loger_ros.stream.chunks import Chunk, Chunker
from loger_ros.stream.continuity import Continuity
from loger_ros.stream.covariance import Uncertainty
from loger_ros.stream.inference import Answer, ChunkLost, Inference
from loger_ros.stream.network import Network
from loger_ros.stream.prepare import Preparation, check_image
from loger_ros.stream.results import Part, Result, gather
from loger_ros.stream.state import Prepared, Snapshot, State
from loger_ros.stream.wheels import on_wheels
from loger_ros.types import Camera, Frame, PosedFrame, Update


class PoseRecord(Protocol):
    """Where final poses go, such as loger_ros.mapping.journal.Journal."""

    def append(self, frames: tuple[PosedFrame, ...]) -> None: ...
    def mark(self) -> Any: ...
    def rewind(self, mark: Any) -> None: ...


class Reconstructor:
    def __init__(
        self,
        model: Network,
        chunk_size: int = StreamConfig.chunk_size,
        overlap: int = StreamConfig.overlap,
        alignment: str = StreamConfig.alignment,
        scale_mode: str = StreamConfig.scale_mode,
        reset_every: int = StreamConfig.reset_every,
        resolution: str | tuple[int, int] | None = None,
        *,
        motion: str = StreamConfig.motion,
        unit: float = StreamConfig.unit,
        field_of_view: float = StreamConfig.field_of_view,
        pitch: float = StreamConfig.pitch,
        iterations: int = StreamConfig.iterations,
        resize: str = StreamConfig.resize,
        encode_batch: int = StreamConfig.encode_batch,
        provisional_every: int = StreamConfig.provisional_every,
        max_gap: float = StreamConfig.max_gap,
        fast_weights: bool = True,
        sliding_window: bool = True,
        camera: Camera | None = None,
        record: PoseRecord | None = None,
        events: EventLog | None = None,
        keep_results: bool = True,
    ) -> None:
        """The settings are those of StreamConfig, which describes them.

        resolution: (width, height), None (images have network size), or what StreamConfig takes.
        fast_weights, sliding_window: False switches that memory off. camera: used to undistort the images and
        bring them to the view of the network, and for its mounting; poses and points are of this camera.
        record: receives every final pose once.
        """
        self._config = StreamConfig(
            chunk_size=chunk_size,
            overlap=overlap,
            alignment=alignment,
            motion=motion,
            scale_mode=scale_mode,
            reset_every=reset_every,
            unit=unit,
            field_of_view=field_of_view,
            pitch=pitch,
            iterations=iterations,
            resize=resize,
            encode_batch=encode_batch,
            provisional_every=provisional_every,
            max_gap=max_gap,
        )
        if isinstance(resolution, str):
            resolution = StreamConfig(resolution=resolution).size
        self.events = events or EventLog()
        self._model = model
        if field_of_view and camera is None:
            message = (
                "the intrinsics of the camera are not known, so its images are assumed to have a "
                f"field of view of {field_of_view:g} degrees. Rotations and lengths are wrong for any other "
                "lens: provide its camera_info (for a recording: --camera-info FILE)"
            )
            self.events.add("camera_unknown", 0, message)
        self._preparation = partial(
            Preparation,
            resolution,
            patch=model.patch_size,
            method=resize,
            field_of_view=field_of_view,
            pitch=pitch,
            device=model.device,
        )
        self._inference = Inference(
            model, self._config, self.events, fast_weights=fast_weights, sliding_window=sliding_window
        )
        # Without its slides, a chunk is no longer where its memory believes it to be.
        self._alignment = "se3" if motion == "wheels" and alignment == "none" else alignment
        self._aligner = Aligner(self._alignment, scale_mode)
        self._record = record
        self._keep_results = keep_results
        self._carried: Carried = getattr(model, "carried", Carried())
        self._assumed_unit = 0.0  # the one that was reported last
        self._state = self._fresh_state(self._preparation(camera=camera))

    @classmethod
    def from_config(cls, model: Network, config: StreamConfig, **others: Any) -> Reconstructor:
        """others: what the configuration does not hold (camera, record, events, keep_results)."""
        settings = {entry.name: getattr(config, entry.name) for entry in fields(config)}
        return cls(model, **settings | {"resolution": config.size}, **others)

    # ---- what callers use -------------------------------------------------------------------------

    def push(self, frame: Frame) -> list[Update]:
        """Return what this frame completed: nothing, a chunk, or the end of one segment.

        Raises ValueError for an image that cannot be used; the state is then as it was before.
        """
        check_image(frame.image)
        verdict = self._state.continuity.judge(frame.stamp, frame.image.shape)
        if verdict.drop:
            self.events.add(verdict.event, frame.stamp, verdict.message)
            return []
        begun = self._state.size if frame.image.shape == self._state.shape else None
        prepare = self._state.prepare
        size = prepare.size_for(frame.image, begun)
        image = prepare(frame.image, size)
        if verdict.restart:
            self.events.add(verdict.event, frame.stamp, verdict.message)
            ended = self._end_segment()
            self._state.owed = (*self._state.owed, *ended)  # kept even if the network fails below
        state = self._state
        state.continuity.accept(frame.stamp, frame.image.shape)
        state.size, state.shape = size, frame.image.shape
        prepared = Prepared(frame.stamp, image, prepare.turn, prepare.T_base_view)
        state.waiting = (*state.waiting, prepared)
        return self._with_owed(self._advance())

    def use_camera(self, camera: Camera | None) -> None:
        """Treat images from now on as this camera's; if their size changes too, a new segment starts.

        A segment keeps its automatic unit: ``flush`` first if the mounting becomes known or changes.
        """
        self._state.prepare = self._preparation(camera=camera)

    def flush(self) -> list[Update]:
        """End the stream and return the short tail; all poses are final. Later frames start a new segment."""
        updates = self._end_segment()
        self._state.continuity = Continuity(self._config.max_gap)
        return self._with_owed(updates)

    def reset(self) -> None:
        """Forget memory, map and results, and discard the unfinished chunk. Recorded poses stay."""
        self._settle_shared()
        before = self._state
        self._state = self._fresh_state(before.prepare)
        self._state.segment, self._state.lost = before.segment + 1, before.lost

    def snapshot(self) -> Snapshot:
        return Snapshot(self._state.copied(), self._record.mark() if self._record else None)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from there, bit for bit; poses recorded since are removed from the record."""
        self._state = snapshot.state.copied()
        if self._record and snapshot.record_mark is not None:
            self._record.rewind(snapshot.record_mark)

    def result(self) -> Result:
        """Return all frames of all complete chunks; the last ones are provisional until ``flush``."""
        if not self._keep_results:
            raise RuntimeError(
                "no results were kept: create the Reconstructor with keep_results=True, or use the updates"
            )
        state = self._state
        shared = () if state.shared is None else (Part.of(state.shared),)
        return gather((*state.parts, *shared), state.placements)

    @property
    def camera(self) -> Camera | None:
        """The camera of the network images, after the first image, if ``camera`` was given."""
        return self._state.prepare.camera_at(self._state.size) if self._state.size else None

    @property
    def lost(self) -> int:
        """The number of frames that got no pose because a chunk failed."""
        return self._state.lost

    @property
    def unsettled(self) -> int:
        """The number of frames that are in no complete chunk yet."""
        return self._state.chunker.fresh + len(self._state.waiting)

    # ---- the path of a frame ----------------------------------------------------------------------

    def _advance(self) -> list[Update]:
        """Encode, preview and complete what is due now."""
        config, state = self._config, self._state
        fresh = state.chunker.fresh + len(state.waiting)
        complete = len(state.chunker.growing.items) + len(state.waiting) == config.chunk_size
        preview = config.provisional_every > 0 and fresh % config.provisional_every == 0
        if not (complete or preview or len(state.waiting) >= config.encode_batch):
            return []
        with self._chunk_at_risk() as updates:
            chunk = self._encode_waiting()
            if chunk is not None:
                updates.append(self._complete(chunk, last=False))
            elif preview:
                updates += self._preview()
        return updates

    def _encode_waiting(self) -> Chunk[Prepared] | None:
        """Encode the waiting frames and return the chunk that they complete, if any."""
        state = self._state
        waiting = state.waiting
        encoded = self._inference.encode([item.image for item in waiting], waiting[-1].stamp)
        state.waiting = ()
        for item, features in zip(waiting, encoded, strict=True):
            chunk = state.chunker.push(replace(item, features=features))
        return chunk

    def _complete(self, chunk: Chunk[Prepared], last: bool) -> Update:
        state = self._state
        answer = self._ask(
            chunk, update_memory=not last, update_fast_weights=not self._begins_reset_block(chunk.index + 1)
        )
        count = len(chunk.items)
        update, uncertainty = self._placed(chunk, answer, count if last else count - self._config.overlap)
        state.memory = answer.memory
        if chunk.index == 0:
            state.home, state.unit = chunk.items[0].turn, self._unit_of(chunk)
        state.uncertainty = uncertainty
        state.segment = update.frames[0].segment
        state.placement = Placement(update.T_map_chunk, update.scale)
        if self._keep_results:
            state.placements = (*state.placements, state.placement)
        final = update.final_count
        state.shared = update[final:].owned() if final < count else None
        self._settle(update, final)
        return update

    def _preview(self) -> list[Update]:
        """Return the growing chunk as it looks so far: all poses provisional, nothing remembered."""
        chunk = self._state.chunker.growing
        try:
            answer = self._ask(chunk, update_memory=False)
        except ChunkLost as lost:
            self.events.add("preview_failed", chunk.items[-1].stamp, str(lost))
            return []
        if self._adrift(chunk, answer):  # the memory may be usable for the whole chunk after all
            return []
        return [self._placed(chunk, answer, final=0)[0]]

    def _ask(self, chunk: Chunk[Prepared], **updates: bool) -> Answer:
        memory = self._state.memory
        if self._begins_reset_block(chunk.index):
            memory = self._model.reset_fast_weights(memory)
        features = [item.features for item in chunk.items]
        stamp = chunk.items[-1].stamp
        answer = self._inference.predict(features, memory, stamp, self._unit_of(chunk), **updates)
        if self._config.motion == "wheels":
            answer = on_wheels(answer, [item.T_base_view for item in chunk.items], self.events, stamp)
        turns = [item.turn for item in chunk.items]
        return answer.of_cameras(turns, turns[0] if chunk.index == 0 else self._state.home)

    def _unit_of(self, chunk: Chunk[Prepared]) -> float:
        """Metres per unit of the network, the same for all chunks of a segment."""
        if self._config.unit:
            return self._config.unit
        if chunk.index > 0:
            return self._state.unit
        unit = self._carried.unit_at(chunk.items[-1].T_base_view)
        if unit is None:
            return 1.0
        if unit != self._assumed_unit:
            self._assumed_unit = unit
            message = (
                f"lengths are in metres if the camera is {unit:.3g} m above the ground, which is its height "
                "above frames.level (or frames.base); otherwise set stream.unit (--unit)"
            )
            self.events.add("unit_assumed", chunk.items[-1].stamp, message)
        return unit

    def _begins_reset_block(self, index: int) -> bool:
        """Whether the chunk of this index starts without what the fast weights had learnt."""
        every = self._config.reset_every
        return every > 0 and index > 0 and index % every == 0

    def _placed(self, chunk: Chunk[Prepared], answer: Answer, final: int) -> tuple[Update, Uncertainty]:
        """Place the chunk in the map; its first ``final`` poses are final."""
        state, adrift = self._state, self._adrift(chunk, answer)
        begins = chunk.index == 0 or adrift
        placement = self._place(chunk, answer, begins)
        T_map_camera = placement.poses(answer.T_chunk_camera)
        uncertainty = state.uncertainty.new_segment() if adrift else state.uncertainty
        if begins and state.last is not None:
            seconds = (chunk.items[0].stamp - state.last.stamp) * 1e-9
            uncertainty = uncertainty.after_unseen(state.last.T_map_camera, state.last.covariance, seconds)
        covariances, uncertainty = uncertainty.after_chunk(
            T_map_camera,
            answer.mean_confidence,
            _poses(state.shared),
            placement.scales,
            by_one=self._forgets(chunk, answer),
        )
        covariances.setflags(write=False)
        frames = tuple(
            PosedFrame(item.stamp, pose, covariance, i < final, state.segment + adrift)
            for i, (item, pose, covariance) in enumerate(
                zip(chunk.items, T_map_camera, covariances, strict=True)
            )
        )
        update = Update(
            frames,
            torch.stack([item.image for item in chunk.items]),
            answer.local_points if placement.scale == 1 else answer.local_points * placement.scale,
            answer.confidence,
            chunk.index,
            placement.T_map_chunk,
            placement.scale,
            uncertainty.noise(T_map_camera),
        )
        return update, uncertainty.walked(T_map_camera)

    def _adrift(self, chunk: Chunk[Prepared], answer: Answer) -> bool:
        """Whether the memory is lost and no frame is shared, so that nothing tells where the chunk is."""
        return answer.memory_lost and self._state.shared is None and chunk.index > 0

    def _forgets(self, chunk: Chunk[Prepared], answer: Answer) -> bool:
        """Whether the network does not know what came before the chunk."""
        return answer.memory_lost or self._begins_reset_block(chunk.index)

    def _place(self, chunk: Chunk[Prepared], answer: Answer, begins: bool) -> Placement:
        state = self._state
        if begins:  # a new segment continues where the camera was last known to be
            if state.last is None:
                return HOME
            return join(state.last.T_map_camera, answer.T_chunk_camera[0])
        return self._aligner.place(
            state.placement,
            state.shared,
            answer.T_chunk_camera,
            answer.local_points,
            answer.confidence,
            memory_lost=self._forgets(chunk, answer),
        )

    # ---- ends and losses --------------------------------------------------------------------------

    def _with_owed(self, updates: list[Update]) -> list[Update]:
        """Return the updates after those that an error held back."""
        owed, self._state.owed = self._state.owed, ()
        return [*owed, *updates]

    def _end_segment(self) -> list[Update]:
        """Return the short tail, or the frames that no chunk will estimate again; then start a new memory."""
        with self._chunk_at_risk() as updates:
            if self._state.waiting:
                self._encode_waiting()
            tail = self._state.chunker.tail()
            updates += [self._complete(tail, last=True)] if tail else self._settle_shared()
            self._begin_segment()
        return updates

    def _begin_segment(self) -> None:
        state = self._state
        if state.chunker.growing.items or state.chunker.growing.index:
            state.segment += 1
        state.chunker = Chunker(self._config.chunk_size, self._config.overlap)
        state.uncertainty = state.uncertainty.new_segment()
        state.waiting = ()
        state.placement = HOME
        state.memory = self._model.initial_memory()

    @contextmanager
    def _chunk_at_risk(self) -> Iterator[list[Update]]:
        """If the network fails, the frames of the growing chunk are lost, but nothing else."""
        updates: list[Update] = []
        growing, waiting = self._state.chunker.growing.items, self._state.waiting
        try:
            yield updates
        except Exception as error:
            try:
                settled = self._settle_shared()
            except Exception:  # for the same reason, which is reported below
                settled = []
            given_up = (*growing, *waiting)
            lost = len(given_up) - sum(len(update.frames) for update in (*updates, *settled))
            self._state.lost += lost
            reason = str(error) if isinstance(error, ChunkLost) else reason_of(error)
            message = f"{lost} frames have no pose, and a new segment is started: {reason}"
            last = given_up[-1] if given_up else self._state.last
            self.events.add("chunk_lost", last.stamp if last else 0, message)
            owed, self._state.owed = self._state.owed, (*self._state.owed, *updates, *settled)
            self._begin_segment()  # which may fail as well
            if not isinstance(error, ChunkLost) and not is_out_of_memory(error):
                raise
            self._state.owed = owed
            updates += settled

    def _settle_shared(self) -> list[Update]:
        """Make the shared frames final as they are, since no chunk will estimate them again."""
        shared = self._state.shared
        if shared is None:
            return []
        self._state.shared = None
        settled = replace(shared, frames=tuple(replace(frame, final=True) for frame in shared.frames))
        self._settle(settled, len(settled.frames))
        return [settled]

    def _settle(self, update: Update, final: int) -> None:
        """Record and keep the first ``final`` frames."""
        state, frames = self._state, update.frames[:final]
        if not frames:
            return
        kept = (Part.of(update[:final]),) if self._keep_results else ()
        if self._record:
            self._record.append(frames)
        state.parts = (*state.parts, *kept)
        state.last = frames[-1]

    def _fresh_state(self, prepare: Preparation) -> State:
        return State(
            prepare=prepare,
            chunker=Chunker(self._config.chunk_size, self._config.overlap),
            continuity=Continuity(self._config.max_gap),
            memory=self._model.initial_memory(),
            uncertainty=Uncertainty(self._alignment),
        )


def _poses(update: Update | None) -> np.ndarray:
    """(k, 4, 4), k may be 0."""
    frames = update.frames if update else ()
    return np.array([frame.T_map_camera for frame in frames]).reshape(-1, 4, 4)
