"""``loger world preview|export``: preview procedural scenes, and write them as data sets."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from loger_ros.bags import STORAGES
from loger_ros.cli.arguments import image_size, out_folder, positive
from loger_ros.evaluation.export.folders import write_kitti_source, write_tum_source
from loger_ros.evaluation.sources.synthetic import Synthetic
from loger_ros.files import appearing_folder
from loger_ros.world.bag import write_bag
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.named_sets import NAMED_SETS, named_sequence
from loger_ros.world.paint.families import SPLITS
from loger_ros.world.preview import caption, contact_sheet, film
from loger_ros.world.sequences import MOTIONS, PLACES, Sequence, SequenceSpec

OWN = (
    *("place", "motion", "closed", "split", "seed"),
    *("hfov", "height", "pitch", "rate", "movers", "effects"),
)
FIELDS = {"height": "camera_height", "pitch": "camera_pitch"}  # of SequenceSpec, by option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    preview = actions.add_parser("preview", help="write a contact sheet (PNG) and a short film (GIF)")
    _add_choice(preview)
    preview.add_argument(
        "--out", type=out_folder, default=Path("."), help="folder to write to (default: here)"
    )
    preview.add_argument("--no-film", action="store_true", help="write only the contact sheet")
    export = actions.add_parser("export", help="write a rosbag2, or a TUM-style or KITTI-style folder")
    export.add_argument("format", choices=("bag", "tum", "kitti"), help="what to write")
    export.add_argument("folder", type=Path, help="target; must not exist yet (tum and kitti: or be empty)")
    _add_choice(export)
    bag = export.add_argument_group("options for a bag")
    bag.add_argument("--storage", choices=STORAGES, help="storage format (default: mcap)")
    bag.add_argument("--compressed", action="store_true", help="write JPEG images, on image/compressed")
    bag.add_argument("--with-depth", action="store_true", help="also write depth images, on depth/image")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", choices=NAMED_SETS, help="take a sequence of this named test set; see --index"
    )
    parser.add_argument(
        "--index", type=int, default=0, help="which sequence of the set or seed (default: %(default)s)"
    )
    parser.add_argument("--size", type=image_size, default=(224, 168), metavar="WxH", help="image size")
    parser.add_argument(
        "--frames",
        type=positive,
        help="length (default: 200, with --set all; fewer are the beginning of the set's)",
    )
    own = parser.add_argument_group("a sequence of your own, without --set")
    own.add_argument("--place", choices=PLACES, help="kind of place (default: rooms)")
    own.add_argument("--motion", choices=MOTIONS, help="how the camera moves (default: robot)")
    own.add_argument("--closed", action="store_true", default=None, help="end where the sequence began")
    own.add_argument("--split", choices=SPLITS, help="textures to use (default: train)")
    own.add_argument("--seed", type=int, help="each number gives another place and path (default: 0)")
    own.add_argument(
        "--hfov", type=float, help="horizontal field of view in degrees (default: drawn from 60 to 100)"
    )
    own.add_argument(
        "--height", type=float, help="height of a robot's camera in m (default: drawn from 0.2 to 1.2)"
    )
    own.add_argument(
        "--pitch", type=float, help="pitch of a robot's camera in degrees down (default: drawn from 0 to 20)"
    )
    own.add_argument("--rate", type=float, help="frames per second (default: 10)")
    own.add_argument("--movers", type=int, help="walkers to place if there is room (default: 0)")
    own.add_argument("--effects", choices=PRESETS, help="effects of the camera (default: none)")


def run(args: argparse.Namespace) -> int:
    try:
        if args.action == "export" and args.format != "bag":
            _refuse_options_of_bags(args)
        sequence = _sequence(args)
        return _preview(sequence, args) if args.action == "preview" else _export(sequence, args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"loger world: {error}", file=sys.stderr)
        return 2


def _refuse_options_of_bags(args: argparse.Namespace) -> None:
    for name in ("storage", "compressed", "with_depth"):
        if getattr(args, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is an option for bags, not for {args.format}: leave it out"
            )


def _sequence(args: argparse.Namespace) -> Sequence:
    width, height = args.size
    given = {name: value for name in OWN if (value := getattr(args, name)) is not None}
    if args.set:
        if given:
            raise ValueError(f"--{next(iter(given))}: --set {args.set} fixes that; leave out one of the two")
        whole = named_sequence(args.set, args.index, width, height)
        return replace(
            whole, T_world_camera=whole.T_world_camera[: args.frames], stamps=whole.stamps[: args.frames]
        )
    seed = given.pop("seed", 0)
    if "effects" in given:
        given["effects"] = PRESETS[given["effects"]]
    fields = {FIELDS.get(name, name): value for name, value in given.items()}
    spec = SequenceSpec(frames=args.frames or 200, width=width, height=height, **fields)
    return generate(spec, seed, args.index)


def _preview(sequence: Sequence, args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    spec = sequence.spec
    stem = f"{args.set or f'{spec.place}_{spec.motion}_{sequence.seed}'}_{args.index}"
    sheet = args.out / f"{stem}.png"
    contact_sheet(sequence).save(sheet)
    print(f"{caption(sequence)}\n{sheet}")
    if not args.no_film:
        film(sequence, args.out / f"{stem}.gif")
        print(args.out / f"{stem}.gif")
    return 0


def _export(sequence: Sequence, args: argparse.Namespace) -> int:
    def progress(frames: int) -> None:
        print(f"\r{frames} / {len(sequence)} frames", end="", file=sys.stderr, flush=True)

    with appearing_folder(args.folder) as folder:
        if args.format == "tum":
            write_tum_source(Synthetic(sequence), folder, progress)
        elif args.format == "kitti":
            write_kitti_source(Synthetic(sequence), folder, progress)
        else:
            write_bag(sequence, folder, args.storage or "mcap", args.compressed, args.with_depth, progress)
    print(file=sys.stderr)
    print(f"{caption(sequence)}\n{args.folder}")
    return 0
