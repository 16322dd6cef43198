"""The training loop: resumes exactly from any moment, limited by frames and, per session, by minutes."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from loger_ros.failures import is_of_gpu, is_out_of_memory, reason_of
from loger_ros.files import locked
from loger_ros.model import LoGeR, build_model, load_model
from loger_ros.model.checkpoint import save_checkpoint
from loger_ros.training.bank import Bank, RunError, make_bank
from loger_ros.training.batches import draw
from loger_ros.training.initialise import initialise, open_memory, shut_memory
from loger_ros.training.logbook import Logbook, Pending
from loger_ros.training.optimisers import make_optimisers, set_rates
from loger_ros.training.recipe import Recipe, Stage
from loger_ros.training.states import read_state, recipe_of, write_state
from loger_ros.training.student import Student
from loger_ros.training.take_over import take_over
from loger_ros.training.validation import Examiner

SAVE_EVERY = 60.0  # seconds
MOST_USELESS = 50  # steps in a row without a finite gradient
_LOG_EVERY = 50  # steps
_MATCHED_IMAGES = 128  # those to which the patch filters are matched


class Trainer:
    """One process per rank. Everything that a later run needs is in ``folder``.

    start: model, as load_model takes it; a new run starts with its weights instead of random ones.
    minutes: from now, after which ``run`` ends, but not before it has done one step; if clips are still
    missing then, OutOfTime is raised.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        device: str = "cpu",
        start: str | Path | None = None,
        minutes: float = math.inf,
        say: Callable[[str], object] = print,
    ) -> None:
        self._deadline = time.monotonic() + 60 * minutes
        self.recipe, self.folder, self.say = recipe, folder, say
        self.rank, self.world = _rank_and_world()
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.world > 1:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)  # the one that its barriers wait on
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        self.start = str(start or "")  # kept with the state
        state = read_state(folder, say)
        before = recipe_of(state, recipe, self.world, folder, say) if state is not None else recipe
        if start is not None and state is not None:
            start = None
            say(f"{folder} resumes from its own state, not from the given model")
        trained = load_model(start) if start is not None else None
        folder.mkdir(parents=True, exist_ok=True)
        self.bank: Bank = make_bank(
            recipe.clips, self.device, folder / "cache", self.rank, self.world, self._deadline
        )
        torch.manual_seed(recipe.seed)
        generator = torch.Generator().manual_seed(recipe.seed)
        model = build_model(recipe.model)
        clips = torch.randint(0, len(self.bank), (_MATCHED_IMAGES,), generator=generator)
        images = self.bank.rgb[clips.to(self.device), 0].float().cpu() / 255
        initialise(model, images, generator)
        if trained is not None:
            take_over(model, trained, generator)
            first = recipe.stages[0]
            shut_memory(model, window=not first.sliding_window, fast_weights=not first.fast_weights)
        self._open_memory(model, recipe.stages[0])
        self.student = Student(model, recipe).to(self.device)
        self.average = copy.deepcopy(self.student.model).requires_grad_(False)
        self.stage, self.step, self.frames = 0, 0, 0  # step within the stage, frames over all stages
        self.best = float("inf")  # of the validation
        self.pending = Pending()  # what is not in the log yet
        self._useless = 0  # latest steps in a row without a finite gradient
        self.examiner: Examiner | None = None  # made when first needed: rendering takes time
        self.optimisers = make_optimisers(self.student, recipe, recipe.stages[0])
        if state is not None:
            self._resume(state, before)

    @property
    def total_steps(self) -> int:
        return sum(self._steps(stage) for stage in self.recipe.stages)

    def run(self) -> bool:
        """Train on. Return True when the recipe is finished, False when the time is up."""
        if self.rank:
            return self._train()
        try:
            lock = locked(self.folder / "lock")
        except BlockingIOError:
            raise RunError(
                f"{self.folder} is already in use by another training process: wait for it, or train into "
                "another folder"
            ) from None
        try:
            return self._train()
        finally:
            os.close(lock)

    def _train(self) -> bool:
        saved = time.monotonic()
        logbook = None
        if self.rank == 0:
            logbook = Logbook(self.folder / "log.csv", self._global_step(), self.pending)
        learner: nn.Module = self.student
        if self.world > 1:
            learner = nn.parallel.DistributedDataParallel(self.student, find_unused_parameters=True)
        steps = 0  # in this session; at least one, or training would never end
        while self.stage < len(self.recipe.stages):
            stage = self.recipe.stages[self.stage]
            total = self._steps(stage)
            last = self.stage + 1 == len(self.recipe.stages)
            while self.step < total:
                if self._agreed(steps > 0 and time.monotonic() > self._deadline):
                    self.save()
                    if logbook:
                        logbook.plot(self.folder / "curves.png")
                    return False
                try:
                    values, count = self._learn(learner, stage, self.step / total)
                except (RuntimeError, MemoryError) as error:
                    if not (is_out_of_memory(error) or is_of_gpu(error)):
                        raise
                    smaller = (
                        f"stages.{stage.name} needs a lower frames_per_step; if it has already begun, train "
                        f"into another folder with --from {self.folder / 'model.safetensors'}"
                    )
                    raise RunError(reason_of(error, smaller)) from error
                self.step, steps = self.step + 1, steps + 1
                self.frames += count * self.world
                if logbook:
                    if _finite(values["gradient"]):
                        logbook.add(values, count * self.world)
                    if self._examination_due(count * self.world) or (last and self.step == total):
                        logbook.add_result(self._examine())
                    if self.step % _LOG_EVERY == 0 or self.step == total:
                        self.say(
                            logbook.write(stage.name, self._global_step(), self.total_steps, self.frames)
                        )
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
            self._next_stage()
            if logbook:
                logbook.plot(self.folder / "curves.png")
        return True

    def save(self) -> None:
        if self.rank:
            return
        state = {
            "recipe": self.recipe.source,
            "variant": self.recipe.variant,
            "start": self.start,
            "stage": self.stage,
            "step": self.step,
            "frames": self.frames,
            "best": self.best,
            "world": self.world,
            "pending": dataclasses.asdict(self.pending),
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        # The state is written last: a run that says it is finished has its model.
        self._write("model.safetensors")
        write_state(state, self.folder)

    def _write(self, name: str) -> None:
        recipe = self.recipe
        write_checkpoint(self.average, self.folder / name, recipe.stream, recipe.carried.to_dict())

    # ---- one step ---------------------------------------------------------------------------------

    def _learn(self, learner: nn.Module, stage: Stage, progress: float) -> tuple[dict[str, float], int]:
        generator = torch.Generator().manual_seed(self._seed())
        size = stage.chunk_sizes[int(torch.randint(len(stage.chunk_sizes), (1,), generator=self._shared()))]
        length = max(stage.length, size)
        if float(torch.rand(1, generator=generator)) < stage.short_tails:
            length -= int(torch.randint(size - stage.overlap, (1,), generator=generator))
            length = max(2, length)  # one frame shows no motion; without overlap it could be one
        count = max(1, stage.frames_per_step // length)
        recipe = self.recipe
        batch = draw(
            self.bank, count, length, stage.strides, generator, stage.motions, recipe.views, recipe.tilts
        )
        set_rates(self.optimisers, stage, progress)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.autocast):
            report = learner(batch, stage, size)
        report.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip_gradient)
        values = _numbers(report.parts | {"loss": report.loss.detach(), "gradient": norm})
        if _finite(values["gradient"]):  # of all ranks together, so that all do the same
            for optimiser in self.optimisers:
                optimiser.step()
            self._follow()
            self._useless = 0
        else:
            self._useless += 1
            if self._useless >= MOST_USELESS:
                raise RunError(
                    f"{MOST_USELESS} steps in a row without a finite gradient: lower the rates of "
                    f"stages.{stage.name} (learning_rate, muon_rate) or clip_gradient, and continue with "
                    "the same command, which resumes from before them"
                )
        return values, batch.images.shape[0] * length

    def _examination_due(self, count: int) -> bool:
        """Whether the last ``count`` frames passed a multiple of the interval."""
        every = self.recipe.validation.every if self.recipe.validation else 0
        return every > 0 and self.frames // every > (self.frames - count) // every

    def _examine(self) -> dict[str, float]:
        if self.recipe.validation is None:
            return {}
        if self.examiner is None:
            self.examiner = Examiner(self.recipe, self.device)
        results = self.examiner.examine(self.average)
        if results["validation"] < self.best:
            self.best = results["validation"]
            self._write("best.safetensors")
        return results

    @torch.no_grad()
    def _follow(self) -> None:
        seen = self._global_step()
        decay = min(self.recipe.ema, (1 + seen) / (10 + seen))
        for mean, now in zip(self.average.parameters(), self.student.model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _seed(self) -> int:
        return hash_of(self.recipe.seed, self.stage, self.step, self.rank)

    def _shared(self) -> torch.Generator:
        """Return a generator that is the same on all ranks."""
        return torch.Generator().manual_seed(hash_of(self.recipe.seed, self.stage, self.step, -1))

    # ---- stages and states ------------------------------------------------------------------------

    def _steps(self, stage: Stage) -> int:
        return max(1, stage.frames // (stage.frames_per_step * self.world))

    def _global_step(self) -> int:
        return self.step + sum(self._steps(stage) for stage in self.recipe.stages[: self.stage])

    def _next_stage(self) -> None:
        """Continue with the averaged weights; open a memory that was never used."""
        self.student.model.load_state_dict(self.average.state_dict())
        self.stage, self.step = self.stage + 1, 0
        if self.stage < len(self.recipe.stages):
            self._begin()
        self.save()

    def _begin(self) -> None:
        stage = self.recipe.stages[self.stage]
        self._open_memory(self.student.model, stage)
        self.average.load_state_dict(self.student.model.state_dict())
        self.optimisers = make_optimisers(self.student, self.recipe, stage)

    def _open_memory(self, model: LoGeR, stage: Stage) -> None:
        open_memory(
            model, window=stage.sliding_window, fast_weights=stage.fast_weights, gate=self.recipe.window_gate
        )

    def _resume(self, state: dict[str, Any], before: Recipe) -> None:
        """before: the recipe that the state was trained with."""
        self.stage, self.step, self.frames = state["stage"], state["step"], state["frames"]
        pending = state.get("pending", {})
        self.pending = Pending(**pending) if "counts" in pending else Pending()  # of an older version
        if (before.validation, before.stream) == (self.recipe.validation, self.recipe.stream):
            self.best = state["best"]
        self.start = state.get("start", self.start)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        if self.stage == len(before.stages) < len(self.recipe.stages):
            self._begin()  # it was finished, and now continues
        elif self.stage < len(self.recipe.stages):
            self.optimisers = make_optimisers(self.student, self.recipe, self.recipe.stages[self.stage])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)

    def _agreed(self, over: bool) -> bool:
        """Rank 0 decides for all."""
        if self.world == 1:
            return over
        vote = torch.tensor([float(over)], device=self.device)
        dist.broadcast(vote, 0)
        return bool(vote.item())


def write_checkpoint(
    model: LoGeR, path: Path, stream: Mapping[str, Any], carried: Mapping[str, Any] | None = None
) -> None:
    """Write it as load_model reads it: with its config, the stream settings that suit it, and its cameras."""
    tensors = model.state_dict()
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    save_checkpoint(path, shapes, model.config.to_dict(), tensors.__getitem__, stream, carried)


def hash_of(*numbers: int) -> int:
    """Return a seed that differs if any of the numbers differs."""
    seed = 0x9E3779B97F4A7C15
    for number in numbers:
        seed = ((seed ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        seed ^= seed >> 29
    return seed % 2**63


def _numbers(values: dict[str, Tensor]) -> dict[str, float]:
    """Return all values as floats, with one transfer for all."""
    stacked = torch.stack([value.detach().float() for value in values.values()]).tolist()
    return dict(zip(values, stacked, strict=True))


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _rank_and_world() -> tuple[int, int]:
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
