"""``loger bench world``: frames per second of the ray caster, by kind of place, motion and image size."""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from loger_ros.cli.arguments import add_device, image_size, positive
from loger_ros.world import PRESETS, Sequence, SequenceSpec, generate, render_batch
from loger_ros.world.sequences import PLACES

CASES = [(place, motion) for place in PLACES for motion in ("robot", "handheld")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sizes = [(112, 84), (640, 480)]
    parser.add_argument(
        "--sizes", type=image_size, nargs="+", default=sizes, metavar="WxH", help="image sizes"
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=48,
        help="frames per sequence; 1/8 of that above 200,000 pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--sequences",
        type=positive,
        default=3,
        help="sequences per kind; each has its own seed (default: %(default)s)",
    )
    parser.add_argument(
        "--repeat",
        type=positive,
        default=5,
        help="times that each sequence is rendered (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=positive, default=1, help="torch threads on the CPU (default: %(default)s)"
    )
    add_device(parser)
    parser.add_argument(
        "--effects", choices=PRESETS, default="none", help="camera effects (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, threads: {args.threads}"
    print(
        f"{name}, torch {torch.__version__}, effects {args.effects}; sequences per kind: {args.sequences}, "
        f"each rendered {args.repeat} time(s).\nframes/s: by the clock, which other programs slow down, "
        "and by the CPU time of this process (median, best).\nns/px: CPU time per pixel, best; x mul: how "
        "many float32 multiplications of arrays in cache take as long."
    )
    for width, height in args.sizes:
        frames = args.frames if width * height <= 200_000 else max(1, args.frames // 8)
        title = f"{width}x{height}, {frames} frames"
        print(f"\n{title:<22}    clock      CPU   (best)   ns/px   x mul   generate")
        for place, motion in CASES:
            spec = SequenceSpec(
                place, motion, frames=frames, width=width, height=height, effects=PRESETS[args.effects]
            )
            start = time.process_time()
            sequences = [generate(spec, seed) for seed in range(args.sequences)]
            made = (time.process_time() - start) / len(sequences)
            wall, cpu = _measure(sequences, args.repeat, device)
            best = min(cpu)
            rates = [1 / statistics.median(wall), 1 / statistics.median(cpu), 1 / best]
            pixel = best / (width * height) * 1e9
            numbers = "".join(f"{rate:9.1f}" for rate in rates)
            print(
                f"{place + ', ' + motion:<22}{numbers}{pixel:8.0f}{pixel / _multiplication():8.0f}"
                f"{made * 1e3:8.0f} ms",
                flush=True,
            )
    return 0


def _measure(sequences: list[Sequence], repeat: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Seconds per frame by the clock and on the CPU, after a warm-up. A GPU renders all sequences at once."""
    whole = device.type == "cuda" and not sequences[0].spec.effects.blur

    def render() -> None:
        if whole:
            render_batch(sequences, 0, len(sequences[0]), device)
        else:
            for sequence in sequences:
                sequence.render(device=device)
        if device.type == "cuda":
            torch.cuda.synchronize()

    frames = sum(len(sequence) for sequence in sequences)
    render()
    wall, cpu = [], []
    for _ in range(repeat):
        start = time.perf_counter(), time.process_time()
        render()
        wall.append((time.perf_counter() - start[0]) / frames)
        cpu.append((time.process_time() - start[1]) / frames)
    return wall, cpu


def _multiplication() -> float:
    """Nanoseconds per element of a multiplication, best of many."""
    a, b = torch.rand(50_000), torch.rand(50_000)
    best = 1.0
    for _ in range(200):
        start = time.perf_counter()
        torch.mul(a, b)
        best = min(best, time.perf_counter() - start)
    return best / len(a) * 1e9
