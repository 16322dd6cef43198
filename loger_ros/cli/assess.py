"""``loger assess [MODEL]``: compare a model with its goals and every baseline, in one table."""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from loger_ros.cli.arguments import add_device, image_size
from loger_ros.config import ALIGNMENTS, StreamConfig
from loger_ros.files import appearing_whole
from loger_ros.world.named_sets import NAMED_SETS

if TYPE_CHECKING:
    from loger_ros.evaluation.assessment.films import Film
    from loger_ros.model import LoGeR

PARTS = ("accuracy", "baselines", "chunks", "tails", "outside", "memory", "speed")
LEAST_FRAMES = 40
LONG_SEED = 9200  # of the long sequences that the memory part uses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", default="tiny", help="name or path of a checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=NAMED_SETS,
        default=list(NAMED_SETS),
        help="named sets to use (default: all)",
    )
    parser.add_argument(
        "--fresh-seeds", nargs="+", type=int, metavar="N",
        help="use new places of the same kinds, made from these seeds, instead of the named sets",
    )  # fmt: skip
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to assess (default: everything)"
    )
    parser.add_argument(
        "--baselines-from", type=Path, metavar="TABLE.JSON",
        help="take the baselines from an earlier assessment on the same frames",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, help="at most this many frames of each sequence, for a quick look"
    )
    parser.add_argument(
        "--memory-sequences",
        type=int,
        default=16,
        help="sequences of robots, and of 6-DoF, in the memory part (default: %(default)s of each)",
    )
    parser.add_argument(
        "--memory-frames",
        type=int,
        default=2000,
        help="frames per sequence in the memory part (default: %(default)s)",
    )
    parser.add_argument("--size", type=image_size, metavar="WxH", help="size of the network's images")
    parser.add_argument(
        "--chunk-size", type=int, help="frames per chunk (default: what the checkpoint recommends)"
    )
    parser.add_argument(
        "--overlap", type=int, help="frames that two chunks share (default: what the checkpoint recommends)"
    )
    parser.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        help="how chunks are joined (default: what the checkpoint recommends)",
    )
    parser.add_argument(
        "--in-metres", action="store_true", help="the model's unit is the metre, not the camera's height"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("assessment"), help="folder for table.md and table.json"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads, except in the speed part (default: %(default)s)",
    )
    parser.add_argument(
        "--speed-threads",
        type=int,
        nargs="+",
        default=[1, 2],
        help="torch threads to measure the speed with (default: 1 2)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    from loger_ros.model import CheckpointError, load_model

    torch.set_num_threads(args.threads)
    try:
        if (args.frames or LEAST_FRAMES) < LEAST_FRAMES or args.memory_frames < 100:
            raise ValueError(f"--frames must be at least {LEAST_FRAMES} and --memory-frames at least 100")
        earlier = _table(args.baselines_from) if args.baselines_from else None
        model = load_model(args.model, device=args.device)
        args.out.mkdir(parents=True, exist_ok=True)
        Examination(model, args, earlier).run()
    except BrokenPipeError:
        raise
    except (CheckpointError, ValueError, RuntimeError, OSError) as error:
        print(f"loger assess: {error}", file=sys.stderr)
        return 1
    return 0


class Examination:
    """Writes the results after every part, so that nothing is lost when it is interrupted."""

    def __init__(self, model: LoGeR, args: argparse.Namespace, earlier: dict[str, Any] | None = None) -> None:
        """earlier: the table that baselines are taken from."""
        self.model, self.args, self.earlier = model, args, earlier
        self.size = args.size or _recommended_size(model)
        self.taught = StreamConfig(**model.recommended)
        self.changes = {name: getattr(args, name) for name in ("chunk_size", "overlap", "alignment")}
        self.changes["in_heights"] = not args.in_metres
        self.started = time.perf_counter()
        self.result: dict[str, Any] = {
            "title": f"Assessment of {args.model}",
            "how": self._how(),
            "size": list(self.size),
            "view": [self.taught.field_of_view, self.taught.pitch],
        }

    def run(self) -> None:
        from loger_ros.evaluation.assessment import examine
        from loger_ros.evaluation.assessment.opponents import baselines

        args, parts = self.args, set(self.args.parts)
        self.say(self.result["how"])
        films = list(self._films("baselines" in parts and args.baselines_from is None))
        self.say(f"rendered {sum(map(len, films))} frames of {len(films)} sequences")
        for world, own in examine.worlds(films).items():
            self.say(f"\n{world}: {', '.join(f'{film.name} ({len(film)} frames)' for film in own)}")
            some = _one_of_each(own)
            if "accuracy" in parts:
                for name, found in examine.accuracy(self.model, own, self.say, **self.changes).items():
                    self._keep(world, name, found)
            if "baselines" in parts:
                known = self._known_baselines(world, own)
                self._keep(world, "baselines", known or baselines(own, self.say))
            if "chunks" in parts:
                known = self.result.get(world, {})
                found = examine.chunk_sizes(self.model, own, some, self.say, known, **self.changes)
                self._keep(world, "chunks", found)
            if "tails" in parts:
                self._keep(world, "tails", examine.tails(self.model, some, self.say, **self.changes))
            if "outside" in parts and world == "robot":
                self._keep(world, "outside", self._outside())
            if "speed" in parts:
                rates = examine.speed(self.model, some[0], args.speed_threads, self.say, **self.changes)
                self._keep(world, "speed", rates)
            if "memory" in parts:
                found = examine.memory(self.model, self._long(world), self.say, **self.changes)
                self._keep(world, "memory", found)
        self.say(f"\nwritten to {args.out / 'table.md'} and {args.out / 'table.json'}")

    def _known_baselines(self, world: str, films: list[Film]) -> Any:
        path, earlier = self.args.baselines_from, self.earlier
        if earlier is None:
            return None
        found = earlier.get(world, {}).get("baselines", {})
        seen = {(name, row["frames"]) for name, row in found.get("zero motion", {}).get("films", {}).items()}
        alike = all(earlier.get(name) == self.result[name] for name in ("size", "view"))
        if not alike or seen != {(film.name, len(film)) for film in films}:
            raise ValueError(
                f"{path} has no baselines of the same frames at the same size and field of view ({world})"
            )
        self.say(f"baselines taken from {path}")
        return _with_nan(found)

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:6.0f} s] {text}", flush=True)

    def _films(self, fine: bool) -> Iterator[Film]:
        from loger_ros.evaluation.assessment.films import set_films

        for name in self.args.sets:
            for seed in self.args.fresh_seeds or [None]:
                yield from set_films(
                    name,
                    self.size,
                    self.args.device,
                    seed=seed,
                    frames=self.args.frames,
                    fine=fine,
                    taught=self.taught,
                )

    def _long(self, world: str) -> Iterator[Film]:
        from loger_ros.evaluation.assessment.films import long_films

        seed = LONG_SEED + sum(self.args.fresh_seeds or [])
        motion = "robot" if world == "robot" else "handheld"
        count, frames = self.args.memory_sequences, self.args.memory_frames
        return long_films(motion, count, frames, self.size, self.args.device, seed, self.taught)

    def _outside(self) -> dict[str, Any]:
        from loger_ros.evaluation.assessment.outside import FRAMES, SEED, outside

        return outside(
            self.model,
            self.size,
            self.args.device,
            self.taught,
            self.say,
            seed=SEED + sum(self.args.fresh_seeds or []),
            frames=min(FRAMES, self.args.frames or FRAMES),
            **self.changes,
        )

    def _keep(self, world: str, part: str, found: Any) -> None:
        from loger_ros.evaluation.assessment.report import page

        self.result.setdefault(world, {})[part] = found
        self.args.out.mkdir(parents=True, exist_ok=True)
        table = json.dumps(_plain(self.result), indent=1) + "\n"
        for name, text in (("table.json", table), ("table.md", page(self.result))):
            with appearing_whole(self.args.out / name) as file:
                file.write(text.encode())

    def _how(self) -> str:
        args = self.args
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        asked = {name: value for name, value in self.changes.items() if value is not None}
        sets = ", ".join(args.sets)
        which = (
            f"other places of the same kinds as {sets}, seeds {args.fresh_seeds}"
            if args.fresh_seeds
            else sets
        )
        cut = f", at most {args.frames} frames of each" if args.frames else ""
        width, height = self.size
        view = ""
        if self.taught.field_of_view:
            view = (
                f"; resampled for the network to a field of view of {self.taught.field_of_view:g} degrees "
                f"and, on a robot, to a pitch of {self.taught.pitch:g} degrees down, by the true values"
            )
        unit = "the metre" if args.in_metres else "the camera's height above the ground, which is given"
        return (
            f"{args.model}: {parameters:,} parameters, images of {width}x{height} averaged from "
            f"{2 * width}x{2 * height}, as all baselines see them{view}. Recommended by the checkpoint: "
            f"{self.model.recommended or 'nothing'}; asked for: {asked}. Its unit is {unit}. Sequences: "
            f"{which}{cut}; textures of the test split, mild camera effects. Robots are judged in "
            f"metres, other motions up to one scale per sequence. {_machine(args.device)}, "
            f"torch {torch.__version__}, {args.threads} thread(s)."
        )


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{path} is not the table of an assessment: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} is not the table of an assessment")
    return table


def _recommended_size(model: LoGeR) -> tuple[int, int]:
    named = str(model.recommended.get("resolution", "native"))
    try:
        return image_size(named)
    except argparse.ArgumentTypeError:
        patch = model.patch_size
        return 8 * patch, 6 * patch


def _one_of_each(films: list[Film]) -> list[Film]:
    """The first sequence of every set."""
    chosen: dict[str, Film] = {}
    for film in films:
        chosen.setdefault(film.name.split()[0], film)
    return list(chosen.values())


def _machine(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}"


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(item) for name, item in value.items()}
    return float("nan") if value is None else value


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, with None."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
