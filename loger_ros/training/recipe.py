"""What to train, on what, and in which order: one YAML file from which a run can be repeated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from loger_ros.config import StreamConfig, yaml_problem
from loger_ros.model import ConfigError, ModelConfig
from loger_ros.model.carried import Carried
from loger_ros.world.effects import PRESETS
from loger_ros.world.sequences import MOTIONS, PLACES


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the entry."""


@dataclass(frozen=True)
class Clips:
    """Rendered once, kept on the device that trains."""

    count: int
    frames: int  # per clip
    seed: int = 1
    places: tuple[str, ...] = ("rooms",)
    motions: tuple[str, ...] = ("robot",)
    effects: tuple[str, ...] = ("none",)  # presets of the world; each with every place and motion
    hfov: float | None = None  # degrees; None: drawn per clip
    camera_height: float | None = None  # metres; None: drawn per clip
    camera_heights: tuple[float, float] | None = None  # metres, range to draw from, uniform in the logarithm
    camera_pitch: float | None = None  # degrees; None: drawn per clip
    camera_forward: tuple[float, float] | None = None  # metres ahead of the turning point; None: 0..0.15
    render_size: tuple[int, int] = (112, 84)  # width, height; averaged down to image_size
    image_size: tuple[int, int] = (56, 42)

    def __post_init__(self) -> None:
        _check_entries(self)
        if self.count < 1 or self.frames < 2:
            raise ValueError("count must be at least 1 and frames at least 2")
        _check_least(self, 0, "seed")
        for name, known in (("places", PLACES), ("motions", MOTIONS), ("effects", PRESETS)):
            _check_named(name, getattr(self, name), known)
        for name in ("image_size", "render_size"):
            size = getattr(self, name)
            if not (_whole_numbers(size) and len(size) == 2 and min(size) >= 1):
                raise ValueError(f"{name} must be a width and a height in pixels, got {size}")
        width, height = self.image_size
        factor = max(1, self.render_size[0] // width)
        if self.render_size != (factor * width, factor * height):
            raise ValueError(
                "render_size must be image_size times a whole number, so that pixels can be averaged, "
                f"such as [{factor * width}, {factor * height}], got {list(self.render_size)}"
            )
        if self.camera_heights is not None and self.camera_heights[0] <= 0:
            raise ValueError(f"camera_heights must be above 0, got {self.camera_heights}")
        if self.camera_height is not None and self.camera_heights is not None:
            raise ValueError("give camera_height or camera_heights, not both")

    def motion_of(self, index: int) -> str:
        """Return the motion of a clip; each place occurs with every motion."""
        return self.motions[index // len(self.places) % len(self.motions)]

    def forward_of(self, seed: int, number: int) -> float | None:
        """Return metres ahead of the turning point; None: the world draws it."""
        if self.camera_forward is None:
            return None
        return float(own_stream(seed, number, 1).uniform(*self.camera_forward))

    def height_of(self, seed: int, index: int) -> float | None:
        """Return the camera height in a robot's clip, metres; None: the world draws it."""
        if self.camera_heights is None:
            return self.camera_height
        low, high = np.log(self.camera_heights)
        return float(np.exp(own_stream(seed, index, 2).uniform(low, high)))


@dataclass(frozen=True)
class Stage:
    """One part of the curriculum. The schedule counts frames, so that a run can stop and resume exactly."""

    name: str
    frames: int  # to train on, repetitions counted
    frames_per_step: int
    chunk_sizes: tuple[int, ...]  # one is drawn per step
    motions: tuple[str, ...] = ("robot",)  # of the clips that it trains on
    length: int = 0  # frames per sample, in as many chunks as needed; 0: one chunk
    short_tails: float = 0.0  # share of samples whose last chunk is cut short, as at the end of a stream
    overlap: int = 1
    strides: tuple[int, int] = (1, 3)  # fewest and most clip frames from one frame to the next
    learning_rate: float = 1.5e-3  # AdamW
    muon_rate: float = 2e-3
    warm_up: float = 0.03  # share of the stage
    rotation_weight: float = 20.0
    translation_weight: float = 10.0
    chained_weight: float = 0.0  # relative poses across chunks, joined as the stream joins them
    global_weight: float = 0.0  # of points placed by the poses of the whole sample
    length_weight: float = 0.0  # of the path length of a whole sample, if the unit is known
    drift_weight: float = 0.0  # of the mean error of all steps of a sample
    rotation_softness: float = 0.5  # degrees below which errors count quadratically
    translation_softness: float = 0.01  # metres, or units of the scene if the scale is free
    attention_weight: float = 1.0  # training aid: attention follows true correspondences
    flow_weight: float = 1.0  # training aid: tokens predict where they moved
    confidence_weight: float = 0.02
    fast_weights: bool = False
    sliding_window: bool = False

    def __post_init__(self) -> None:
        _check_entries(self)
        _check_named("motions", self.motions, MOTIONS)
        _check_least(self, 0, "learning_rate", "muon_rate")
        for wrong, reason in (
            (not _whole_numbers(self.chunk_sizes), "chunk_sizes must be a list of whole numbers"),
            (not _whole_numbers(self.strides) or len(self.strides) != 2, "strides must be two whole numbers"),
            (min(self.frames, self.frames_per_step) < 1, "frames and frames_per_step must be at least 1"),
            (not 0 <= self.short_tails <= 1, "short_tails is a share, 0 to 1"),
            (not 0 <= self.warm_up <= 1, "warm_up is a share, 0 to 1"),
            (min(self.rotation_softness, self.translation_softness) <= 0, "softness must be above 0"),
        ):
            if wrong:
                raise ValueError(reason)
        if min(self.chunk_sizes) < 2:
            raise ValueError("a chunk of one frame shows no motion: chunk_sizes must be at least 2")
        if not 0 <= self.overlap < min(self.chunk_sizes):
            raise ValueError(
                "each chunk needs frames that it does not share: 0 <= overlap < each of chunk_sizes"
            )
        if self.overlap == 0 and (self.chained_weight or self.global_weight):
            raise ValueError("chained_weight and global_weight need chunks that share frames (overlap)")
        if not 1 <= self.strides[0] <= self.strides[1]:
            raise ValueError("strides must be at least 1, and the second one not less than the first")


def own_stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Return a generator that the world never uses: its seeds have at most three words (missing ones are 0).

    purpose: not 0.
    """
    return np.random.default_rng([seed, index, 0, purpose])


def _check_entries(section: Any) -> None:
    """Check each entry by itself. Text that is a number becomes one: to PyYAML, 5e-4 is text."""
    for item in dataclasses.fields(section):
        value, kind = getattr(section, item.name), str(item.type).removesuffix(" | None")
        if kind not in _KINDS or (value is None and kind != item.type):
            continue
        if "float" in kind:
            value = tuple(map(_as_number, value)) if isinstance(value, tuple) else _as_number(value)
        demand, fits = _KINDS[kind]
        if not fits(value):
            raise ValueError(f"{item.name} must be {demand}, got {value!r:.80}")
        object.__setattr__(section, item.name, value)


def _check_least(section: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(section, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(section, name)}")


def _check_named(name: str, named: Any, known: Iterable[str]) -> None:
    known = list(known)
    if not isinstance(named, tuple) or not named or not all(entry in known for entry in named):
        raise ValueError(f"{name} must be a list of entries from {', '.join(known)}, got {named!r:.80}")


def _as_number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_order(values: Any) -> bool:
    numbers = isinstance(values, tuple) and len(values) == 2 and all(map(_is_number, values))
    return numbers and values[0] <= values[1]


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, tuple) and bool(values) and all(type(value) is int for value in values)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # annotation: description, check
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: _whole_numbers((value,))),
    "float": ("a finite number", _is_number),
    "tuple[float, float]": ("two numbers, the lower one first", _in_order),
}


@dataclass(frozen=True)
class Validation:
    """Streams over unseen places during training; the best model so far is kept."""

    every: int  # frames of training
    sequences: int = 3  # of each motion
    frames: int = 150  # per sequence
    seed: int = 77

    def __post_init__(self) -> None:
        _check_entries(self)
        if min(self.every, self.sequences) < 1 or self.frames < 2:
            raise ValueError("every and sequences must be at least 1 and frames at least 2")
        _check_least(self, 0, "seed")


@dataclass(frozen=True)
class Recipe:
    model: ModelConfig
    clips: Clips
    stages: tuple[Stage, ...]
    seed: int = 0
    metric: bool = True  # unit: a robot's camera height; False, or another motion: a free scale per sample
    ema: float = 0.999
    weight_decay: float = 0.02
    clip_gradient: float = 1.0
    autocast: bool = False  # products of the network in bfloat16, for GPUs
    views: tuple[float, float] | None = None  # narrowest and widest field of view to imitate, degrees
    tilts: tuple[float, float] = (
        0.0,
        0.0,
    )  # least and most degrees that a robot's camera looks further down than in the clips
    window_gate: float = 0.3  # bias of the gates of the sliding window when it is first switched on
    aided_heads: int = 2  # attention heads per global block that follow correspondences
    validation: Validation | None = None
    stream: Mapping[str, Any] = field(default_factory=dict)  # StreamConfig that the checkpoint recommends
    carried: Carried = field(default_factory=Carried)  # into the checkpoint: the clips' cameras on robots
    variant: str = ""  # section of ``variants`` that was merged over the rest, such as gpu
    source: str = field(default="", compare=False)  # text of the file, kept with the state of the run

    def __post_init__(self) -> None:
        _check_entries(self)
        _check_least(self, 0, "weight_decay", "clip_gradient")
        if self.views is not None and self.views[0] <= 0:
            raise ValueError(f"views must be above 0, got {self.views}")
        patch, clips = self.model.patch_size, self.clips
        if any(side % patch for side in clips.image_size):
            raise ValueError(
                f"both numbers of clips.image_size must be multiples of model.patch_size, {patch}, "
                f"got {list(clips.image_size)}"
            )
        there = {clips.motion_of(index) for index in range(clips.count)}
        for stage in self.stages:
            where = f"stages.{stage.name}"
            longest = max(stage.length, *stage.chunk_sizes)
            if longest > clips.frames:
                raise ValueError(
                    f"{where}: its samples of {longest} frames do not fit into clips of {clips.frames}: "
                    "raise clips.frames, or lower its length or chunk_sizes"
                )
            if absent := sorted(set(stage.motions) - there):
                raise ValueError(
                    f"{where}: no clip moves like {', '.join(absent)}: "
                    "add them to clips.motions, raise clips.count, or remove them from the stage's motions"
                )

    @classmethod
    def from_yaml(cls, path: str | Path, variant: str = "") -> Recipe:
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"), path, variant)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} cannot be read as a recipe: {error}") from error

    @classmethod
    def from_text(cls, text: str, path: str | Path = "the recipe", variant: str = "") -> Recipe:
        """path: the name used in messages."""
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"{path} cannot be read as a recipe: {yaml_problem(error)}") from error
        if not isinstance(values, Mapping):
            raise RecipeError(f"{path} is not a recipe: expected model, clips and stages")
        variants = _section(values.get("variants") or {}, "variants")
        if variant and variant not in variants:
            raise RecipeError(f"{path} has no variant {variant!r}; known: {', '.join(variants) or 'none'}")
        laid_over = _section(variants[variant], f"variants.{variant}") if variant else {}
        values = _laid_over({k: v for k, v in values.items() if k != "variants"}, laid_over)
        try:
            model = ModelConfig.from_dict(_section(values.pop("model"), "model"))
            clips = _made(Clips, values.pop("clips"), "clips")
            stages = tuple(
                _made(Stage, {"name": name, **_section(stage, f"stages.{name}")}, f"stages.{name}")
                for name, stage in _section(values.pop("stages"), "stages").items()
            )
        except ConfigError as error:
            raise RecipeError(f"{path}: model: {error}") from error
        except KeyError as error:
            raise RecipeError(f"{path}: the section {error} is missing") from error
        if values.get("validation") is not None:
            values["validation"] = _made(Validation, values["validation"], "validation")
        if "carried" in values:
            cameras = _section(values["carried"], "carried")
            try:
                values["carried"] = Carried.from_dict(cameras)
            except (TypeError, ValueError) as error:
                raise RecipeError(f"{path}: carried: {error}") from error
        if "stream" in values:
            _made(StreamConfig, values["stream"], "stream")
        if "tilts" in values and "views" not in values:
            raise RecipeError(f"{path}: tilts apply to the cameras that views describe; give views, too")
        if not stages:
            raise RecipeError(f"{path}: a recipe needs at least one stage")
        return _made(
            cls,
            {
                "model": model,
                "clips": clips,
                "stages": stages,
                "variant": variant,
                "source": text,
                **values,
            },
            "recipe",
        )

    def same_until(self, other: Recipe, done: int) -> bool:
        """Whether the recipes agree in all that the first ``done`` stages depend on and, except for step
        sizes, in the stage under way.
        """
        count = min(done + 1, len(self.stages))

        def fixed(recipe: Recipe) -> Recipe:
            stages = [
                stage if number < done else dataclasses.replace(stage, learning_rate=0.0, muon_rate=0.0)
                for number, stage in enumerate(recipe.stages[:count])
            ]
            return dataclasses.replace(
                recipe,
                stages=tuple(stages),
                stream={},
                carried=Carried(),
                validation=None,
                clip_gradient=0.0,
            )

        return fixed(self) == fixed(other)

    def steps_of(self, number: int) -> dict[str, float]:
        """Return the settings that decide the step size of a stage."""
        stage = self.stages[number]
        return {
            "learning_rate": stage.learning_rate,
            "muon_rate": stage.muon_rate,
            "clip_gradient": self.clip_gradient,
        }


def _laid_over(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged, everything else is replaced."""
    merged = dict(values)
    for name, change in changes.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(change, Mapping)
        merged[name] = _laid_over(old, change) if both else change  # type: ignore[arg-type]
    return merged


def _section(values: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: expected a section of entries, got {values!r:.80}")
    return values


def _made(kind: type, values: Any, where: str) -> Any:
    values = _section(values, where)
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise RecipeError(f"{where}.{unknown[0]} is not a known entry; known: {', '.join(sorted(known))}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {error}") from error
