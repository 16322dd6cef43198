"""``loger bench soak``: run the node for hours with a faulty camera: memory, drops by cause, ages, stalls."""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from loger_ros.cli.arguments import add_parameters, amount, image_size

NASTY = (
    *("drop:=0.02", "late:=0.02", "late_by:=0.1", "duplicate:=0.02", "pause_every:=300.0", "pause_for:=15.0"),
    *("resize_every:=240.0", "jump_every:=420.0", "jump_by:=3600.0"),
)
FRAMES = 300  # rendered before the first is sent, then played forwards and backwards; fewer if they are large
RENDERING = 5e-6  # s per pixel, at most
COLUMNS = (
    *("seconds", "resident_mb", "images_received", "frames_processed", "odometry_heard", "queue"),
    *("age_odometry_s_p50", "age_odometry_s_p99", "age_pose_s_p99", "chunk_ms_p99", "dropped", "unexplained"),
)
EVERY = 10.0  # s between lines
PARTS, SMOOTH = 6, 6  # parts of the run for the lowest memory; lines that a rate is taken over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=amount, default=60.0, help="how long to run (default: %(default)g)")
    parser.add_argument("--model", default="tiny", help="name or path of a checkpoint (default: %(default)s)")
    parser.add_argument("--size", type=image_size, default=(160, 120), help="width x height of the images")
    parser.add_argument("--rate", type=amount, default=30.0, help="images per second (default: %(default)g)")
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("soak.csv"),
        help="CSV file for the measurements; the picture is written beside it (default: %(default)s)",
    )
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    for file in (args.log, args.log.with_suffix(".png")):
        if file.exists():
            raise ValueError(f"{file} exists: choose another --log, or remove it")
    from loger_ros.ros.bench.trial import PATIENCE, Ended, Trial, trial
    from loger_ros.world.playback import BYTES, MOST_KEPT

    def line(node: Trial, begun: float) -> dict[str, float | str]:
        dropped = sum(node.dropped().values())
        arrived = node.number("images_received") + node.dropped().get("lost_on_the_way", 0)
        waiting = int(node.values["queue"].split()[0])
        row: dict[str, float | str] = {name: node.values.get(name, "") for name in COLUMNS}
        return row | {
            "seconds": round(time.monotonic() - begun, 1),
            "resident_mb": round(node.resident(), 2),
            "odometry_heard": node.odometry,
            "queue": waiting,
            "dropped": dropped,
            "unexplained": arrived - node.number("frames_processed") - dropped - waiting,
        }

    width, height = args.size
    frames = max(1, min(FRAMES, MOST_KEPT // (BYTES * width * height)))
    camera = [
        *(f"width:={width}", f"height:={height}", f"rate:={args.rate:f}"),
        *("keep:=true", f"frames:={frames}", *NASTY),
    ]
    patience = PATIENCE + RENDERING * frames * width * height
    rows = []
    with tempfile.TemporaryDirectory() as folder, args.log.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        settings = [f"model.checkpoint:={args.model}", f"output.folder:={folder}", *args.parameters]
        try:
            with trial(settings, "synthetic.camera", camera, patience=patience) as node:
                begun = time.monotonic()
                while time.monotonic() < begun + args.minutes * 60:
                    due = time.monotonic() + EVERY
                    node.wait(lambda due=due: time.monotonic() > due, EVERY + 60)  # type: ignore[misc]
                    rows.append(line(node, begun))
                    writer.writerow(rows[-1])
                    file.flush()
                    last, dropped = dict(node.values), node.dropped()
        except Ended as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            if not rows:
                raise
    if not rows:
        print(
            f"the run ended before the first measurement: a soak takes at least {EVERY:g} s", file=sys.stderr
        )
        return 1
    report(rows, last, dropped)
    picture(rows, args.log.with_suffix(".png"))
    return 0


def report(rows: list[dict[str, float | str]], last: dict[str, str], dropped: dict[str, int]) -> None:
    memory = column(rows, "resident_mb")
    # The map briefly needs more whenever it drops a part of itself; what grows shows in the lowest values.
    lowest = ", ".join(f"{part.min():.1f}" for part in np.array_split(memory, PARTS) if len(part))
    received, processed = last["images_received"], last["frames_processed"]
    print(f"{rows[-1]['seconds']:.0f} s, {received} images received, {processed} processed")
    print(
        f"memory      {memory[0]:.1f} MB at first, at most {memory.max():.1f}; lowest in each sixth: {lowest}"
    )
    print(f"dropped     {', '.join(f'{count} {cause}' for cause, count in dropped.items()) or 'none'}")
    print(f"unexplained {rows[-1]['unexplained']} images at the end")
    print(
        f"odometry    {rows[-1]['odometry_heard']} messages heard, age p99 {last.get('age_odometry_s_p99')} s"
    )
    print(f"longest time without a new frame: {longest_stall(rows):.0f} s")


def column(rows: list[dict[str, float | str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def picture(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw the run if matplotlib is installed; the log holds everything that the picture shows."""
    try:
        from matplotlib.figure import Figure
    except Exception:  # also if matplotlib is built for another NumPy
        return
    minutes = column(rows, "seconds") / 60
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    memory, rate, lost = figure.subplots(1, 3)
    memory.plot(minutes, column(rows, "resident_mb"))
    memory.set_ylabel("resident memory, MB")
    processed = column(rows, "frames_processed")
    later, before = slice(SMOOTH, None), slice(None, -SMOOTH)
    took = 60 * (minutes[later] - minutes[before])
    rate.plot(minutes[later], (processed[later] - processed[before]) / took)
    rate.set_ylabel("images per second, over a minute")
    for name, label in (("dropped", "dropped, cause named"), ("unexplained", "unexplained")):
        lost.plot(minutes, column(rows, name), label=label)
    lost.set_ylabel("images")
    lost.legend()
    for axes in (memory, rate, lost):
        axes.set_xlabel("minutes")
        axes.set_ylim(min(0, axes.get_ylim()[0]))
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def longest_stall(rows: list[dict[str, float | str]]) -> float:
    """Return the longest time in s, from line to line, during which no frame was processed."""
    longest = since = 0.0
    for before, row in itertools.pairwise(rows):
        moved = float(row["frames_processed"]) > float(before["frames_processed"])
        since = 0.0 if moved else since + float(row["seconds"]) - float(before["seconds"])
        longest = max(longest, since)
    return longest
