"""Every setting of the application, defined once. A field has its default, unit, range and description.

ROS parameters, command-line flags, YAML files and the reference pages are generated from this tree.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

NO_PITCH = -90.0  # degrees: the network was not trained for a pitch
MOTIONS = ("free", "wheels")
LEAST_UNIT = 1e-6  # m
ALIGNMENTS = ("none", "se3", "sim3", "robust")
WHAT_IT_SEES = (
    "overlap",
    "resolution",
    "field_of_view",
    "pitch",
)  # of StreamConfig; what a network was trained with
SCALE_MODES = ("median", "median_all", "trimmed_mean", "trimmed_mean_all", "sim3_avg1")


class ConfigError(ValueError):
    """A setting that cannot work. The message gives its name, its range and its meaning."""


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """dynamic: takes effect while the node runs; otherwise it is read when the node is configured."""
    metadata = {
        "description": description,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "dynamic": dynamic,
    }
    return field(default=default, metadata=metadata)


class Section:
    """A group of settings. Creating one checks every field against its type and range."""

    name = ""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _converted(getattr(self, item.name), hints[item.name])
            if value is None:
                raise self.error(item.name, f"must be {TYPE_NAMES[hints[item.name]]}")
            object.__setattr__(self, item.name, value)
            low, high, choices = (item.metadata[key] for key in ("minimum", "maximum", "choices"))
            if choices and value not in choices:
                raise self.error(item.name, f"must be one of {', '.join(choices)}")
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                least = "" if low is None else f"at least {low} "
                most = "" if high is None else f"at most {high} "
                raise self.error(
                    item.name, f"must be {least}{'and ' if least and most else ''}{most}".strip()
                )
        self.check_texts()

    def check_texts(self) -> None:
        """Check settings whose text must have a certain form."""

    @classmethod
    def check_each(cls, values: Mapping[str, Any]) -> None:
        """Check each setting by itself, whether or not they fit together. ``values`` must be complete."""
        section = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(section, name, value)
        Section.__post_init__(section)

    def error(self, field_name: str, demand: str) -> ConfigError:
        (item,) = (f for f in dataclasses.fields(self) if f.name == field_name)  # type: ignore[arg-type]
        unit = f" [{item.metadata['unit']}]" if item.metadata["unit"] else ""
        value = getattr(self, field_name)
        return ConfigError(
            f"{self.name}.{field_name} is {value!r}; it {demand}.{unit} ({item.metadata['description']})"
        )


TYPE_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    tuple[str, ...]: "a list of texts",
    tuple[float, ...]: "a list of finite numbers",
}


def _converted(value: Any, wanted: Any) -> Any:
    """Return the value as the wanted type, or None if that would change its meaning."""
    if wanted in (tuple[str, ...], tuple[float, ...]):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return None
        items = tuple(_converted(item, wanted.__args__[0]) for item in value)
        return None if None in items else items
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is int and isinstance(value, bool):
        return None
    if wanted is int and hasattr(value, "__index__"):
        return value.__index__()  # NumPy integers, too
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, wanted) else None


@dataclass(frozen=True)
class StreamConfig(Section):
    name = "stream"

    chunk_size: int = setting(
        32, "Number of frames the network processes at once", unit="frames", minimum=1, maximum=1024
    )
    overlap: int = setting(
        3,
        "Number of frames that a chunk shares with the previous one. Must be less than chunk_size; 0 is "
        "allowed only if memory alone joins chunks (alignment none, reset_every 0)",
        unit="frames",
        minimum=0,
    )
    alignment: str = setting(
        "none",
        "How a chunk is joined to the previous one: by memory alone (none), rigidly (se3), with a change of "
        "scale (sim3), or by all shared frames with a change of scale, robust against outliers (robust)",
        choices=ALIGNMENTS,
    )
    motion: str = setting(
        "free",
        "What carries the camera: free allows any motion; wheels is for a vehicle that turns about the "
        "origin of frames.level (or of frames.base if that is empty) and does not slide sideways there. "
        "wheels needs lengths in metres (stream.unit) and chunks that are joined rigidly (alignment none or "
        "se3)",
        choices=MOTIONS,
    )
    scale_mode: str = setting(
        "median", "How alignment sim3 estimates the scale of a chunk", choices=SCALE_MODES
    )
    reset_every: int = setting(0, "Reset the fast weights every N chunks; 0: never", unit="chunks", minimum=0)
    unit: float = setting(
        0.0,
        "Metres per unit of length of the network. 0: automatic, which is the height of the camera above "
        "frames.level (or frames.base), if known, for a network that measures lengths in camera heights, as "
        "tiny does, and 1 otherwise. Set it if that frame is not on the ground",
        unit="m",
        minimum=0,
        maximum=1e6,
    )
    field_of_view: float = setting(
        0.0,
        "Horizontal field of view that the network was trained with; not that of your camera. If the "
        "camera's intrinsics are known, its images are cropped or padded with black to this field of view; "
        "0: images are only resized",
        unit="degrees",
        minimum=0,
        maximum=150,
    )
    pitch: float = setting(
        NO_PITCH,
        "Downward pitch at which the network was trained to look from a vehicle; not that of your camera. If "
        "field_of_view is set and the mounting of the camera is known, images are rotated to this pitch; "
        "-90: never",
        unit="degrees",
        minimum=NO_PITCH,
        maximum=90,
    )
    iterations: int = setting(1, "Number of passes of the network over each chunk", minimum=1, maximum=16)
    resolution: str = setting(
        "auto",
        "Size of the network's images: auto (about 255,000 pixels), native (unchanged) or WIDTHxHEIGHT",
    )
    resize: str = setting(
        "lanczos",
        "Filter for resizing images: lanczos is identical to the published preprocessing and runs on the "
        "network's GPU if there is one; bicubic always runs on the CPU, about seven times as fast as lanczos "
        "there",
        choices=("lanczos", "bicubic"),
    )
    encode_batch: int = setting(
        1,
        "Number of frames encoded together; 1 spreads the work evenly over time",
        unit="frames",
        minimum=1,
        maximum=64,
    )
    provisional_every: int = setting(
        0,
        "While a chunk fills, predict provisional poses after every N new frames; 0: never",
        unit="frames",
        minimum=0,
    )
    max_gap: float = setting(
        10.0,
        "A longer pause between two frames starts a new segment with empty memory; 0: no limit",
        unit="s",
        minimum=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.unit < LEAST_UNIT:
            raise self.error("unit", f"must be 0, or at least {LEAST_UNIT:g}")
        if self.overlap >= self.chunk_size:
            raise self.error("overlap", f"must be less than stream.chunk_size ({self.chunk_size})")
        if self.overlap == 0 and (self.alignment != "none" or self.reset_every):
            which = f"stream.alignment {self.alignment}" if self.alignment != "none" else "stream.reset_every"
            demand = f"must be at least 1, because {which} joins chunks by the frames they share"
            raise self.error("overlap", f"{demand}; or set stream.alignment none and stream.reset_every 0")
        if self.provisional_every >= self.chunk_size:
            raise self.error("provisional_every", f"must be less than stream.chunk_size ({self.chunk_size})")
        if self.motion == "wheels" and (self.overlap == 0 or self.alignment in ("sim3", "robust")):
            demand = (
                "needs chunks that share frames and are joined rigidly: stream.overlap of at least 1 and "
            )
            raise self.error("motion", f"{demand}stream.alignment se3")

    def check_texts(self) -> None:
        self.size  # noqa: B018 (refuses a resolution that cannot be parsed)

    @property
    def size(self) -> str | tuple[int, int] | None:
        """``resolution`` in the form the Reconstructor accepts: None, "auto" or (width, height)."""
        if self.resolution in ("auto", "native"):
            return "auto" if self.resolution == "auto" else None
        size = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", self.resolution)
        if size is None:
            raise self.error("resolution", "must be auto, native or WIDTHxHEIGHT, such as 574x434")
        return int(size[1]), int(size[2])

    def unlike(self, recommended: Mapping[str, Any]) -> str:
        """Return a sentence on the settings that the network was not trained for; empty if there are none."""
        taught = {name: value for name, value in recommended.items() if name in WHAT_IT_SEES}
        said = [
            f"stream.{name} is {own}, but the checkpoint was trained with {value}"
            for name, value in taught.items()
            if (own := getattr(self, name)) != value
        ]
        return (
            f"{'; '.join(said)}: poses may be far off. Leave the setting out to use the trained value"
            if said
            else ""
        )


@dataclass(frozen=True)
class QueueConfig(Section):
    name = "queue"

    capacity: int = setting(
        32, "Most frames that may wait for the network", unit="frames", minimum=1, maximum=4096
    )
    policy: str = setting(
        "latest",
        "What happens when the queue is full: latest drops the oldest frame; keep_all takes no more until "
        "there is room (for replay: images of a live camera would meanwhile be lost in DDS)",
        choices=("latest", "keep_all"),
    )
    every_nth: int = setting(1, "Use only every Nth frame", unit="frames", minimum=1, dynamic=True)
    max_rate: float = setting(
        0.0, "Most frames used per second; 0: no limit", unit="Hz", minimum=0, dynamic=True
    )
    min_motion: float = setting(
        0.0,
        "Skip a frame if its picture moved by less than this since the last frame used, except once a "
        "second; 0: use all",
        unit="image widths",
        minimum=0,
        maximum=1,
    )


@dataclass(frozen=True)
class CloudConfig(Section):
    name = "cloud"

    min_confidence: float = setting(
        0.2, "Drop points with less confidence", unit="probability", minimum=0, maximum=1, dynamic=True
    )
    edge_tolerance: float = setting(
        0.03,
        "Drop points at depth edges: if neighbouring depths differ by more than this fraction; 0: keep them",
        minimum=0,
        dynamic=True,
    )
    min_range: float = setting(0.0, "Drop points with less depth", unit="map units", minimum=0, dynamic=True)
    max_range: float = setting(
        0.0, "Drop points with more depth; 0: no limit", unit="map units", minimum=0, dynamic=True
    )
    stride: int = setting(
        2,
        "Use every Nth pixel in both directions",
        unit="pixels",
        minimum=1,
        maximum=1000,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_range and self.max_range <= self.min_range:
            raise self.error(
                "max_range", f"must exceed cloud.min_range ({self.min_range}), or be 0 for no limit"
            )


@dataclass(frozen=True)
class MapConfig(Section):
    name = "map"

    voxel_size: float = setting(0.05, "Edge length of a voxel", unit="map units", minimum=1e-3)
    max_voxels: int = setting(1_000_000, "Most voxels in the map", minimum=16, maximum=100_000_000)
    interval: float = setting(
        0.1,
        "Least time between two frames that go into the map; 0: all frames do",
        unit="s",
        minimum=0,
    )
    eviction: str = setting(
        "distance",
        "Which voxels a full map discards: those farthest from the camera (distance) or longest unseen (age)",
        choices=("distance", "age"),
    )


SMALL = 20_000  # pixels of a network image


def cloud_settings_for(stream: StreamConfig) -> dict[str, Any]:
    """Return settings that suit the size of the network's images better than the defaults of CloudConfig.

    In small images, neighbouring pixels differ much in depth, and every pixel is needed. The confidence of a
    network that was trained here is the probability that a point is within 10 % of its depth, so half of that
    is where a point is more likely right than wrong.
    """
    if not isinstance(stream.size, tuple) or stream.size[0] * stream.size[1] > SMALL:
        return {}
    return {"stride": 1, "edge_tolerance": 0.0, "min_confidence": 0.5}


LEAST_GAP_AT_REST = 2.0  # s: one frame passes per second, and cameras are not exact

ConfigType = TypeVar("ConfigType", bound="Config")


@dataclass(frozen=True)
class Config:
    """All settings. ``Config()`` is a working configuration."""

    stream: StreamConfig = field(default_factory=StreamConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    map: MapConfig = field(default_factory=MapConfig)

    def __post_init__(self) -> None:
        if self.queue.max_rate and self.stream.max_gap and self.queue.max_rate * self.stream.max_gap <= 1:
            raise self.queue.error(
                "max_rate",
                "would turn every pause between frames into a gap, because stream.max_gap is "
                f"{self.stream.max_gap} s",
            )
        if self.queue.min_motion and 0 < self.stream.max_gap < LEAST_GAP_AT_REST:
            raise self.queue.error(
                "min_motion",
                f"lets one frame per second pass at rest, which would be a gap, because stream.max_gap is "
                f"{self.stream.max_gap} s; set that to at least {LEAST_GAP_AT_REST:g}, or to 0",
            )

    @classmethod
    def from_dict(cls: type[ConfigType], values: Mapping[str, Any]) -> ConfigType:
        """Missing settings keep their defaults; unknown settings are refused."""
        sections = get_type_hints(cls)
        refuse_unknown(values, sections, "")
        made = {}
        for name, given in values.items():
            section = sections[name]
            if not isinstance(given, Mapping):
                raise ConfigError(f"{name} is {given!r}; it must be a group of settings")
            refuse_unknown(given, {f.name for f in dataclasses.fields(section)}, f"{name}.")
            made[name] = section(**given)
        return cls(**made)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self, dict_factory=_plain)

    @classmethod
    def from_yaml(cls: type[ConfigType], path: str | Path) -> ConfigType:
        try:
            values = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as YAML: {yaml_problem(error)}") from error
        if not isinstance(values, Mapping | None):
            raise ConfigError(f"{path} holds {type(values).__name__}; it must hold groups of settings")
        return cls.from_dict(values or {})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def yaml_problem(error: Exception) -> str:
    """Describe, on one line, what is wrong in a YAML file and in which of its lines."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Turn tuples into lists, because YAML has no tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items}


def refuse_unknown(given: Iterable[str], known: Collection[str], prefix: str) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{prefix}{name} is not a setting; {hint}")
