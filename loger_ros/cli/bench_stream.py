"""``loger bench stream``: what the stream costs beyond the network alone, and whether memory or time grows.

The bare model encodes each frame and steps at each complete chunk, on tensors that are ready: the same work
without images, stamps, alignment, covariance and journal. Each compared chunk runs through both in turn, so
that a busy machine slows both down alike.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loger_ros.cli.arguments import add_device, image_size, positive
from loger_ros.config import ALIGNMENTS, MapConfig, StreamConfig
from loger_ros.geometry import transform
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.journal import Journal
from loger_ros.mapping.voxel_map import VoxelMap
from loger_ros.model import PRESETS, LoGeR, ModelConfig, build_model, load_model
from loger_ros.stream import Reconstructor
from loger_ros.stream.prepare import network_input
from loger_ros.types import Frame

SMALL = {
    "encoder": {"img_size": 84, "dim": 96, "depth": 4, "num_heads": 4},
    "decoder": {"dim": 96, "depth": 8, "num_heads": 4, "mlp_ratio": 4},
    "heads": {"dim": 48, "depth": 2, "num_heads": 3, "camera_dim": 32},
    "ttt_insert_after": [0, 2, 4, 6],
    "attn_insert_after": [2, 6],
    "ttt_head_dim": 48,
    "ttt_inter_multi": 2,
    "ttt_pre_norm": True,
}
PICTURES = 64  # different images, used in turn
SAMPLES = 100  # of memory, over the length of the stream
MAP_POINTS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="small",
        help=f"small, {', '.join(PRESETS)} with random weights; or the name or path of a checkpoint",
    )
    parser.add_argument(
        "--size",
        type=image_size,
        help="width x height of the images (default: the checkpoint's own, or 56x42)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=20_000,
        help="length of the stream in frames (default: %(default)s)",
    )
    parser.add_argument(
        "--chunk-size", type=positive, default=32, help="frames per chunk (default: %(default)s)"
    )
    parser.add_argument(
        "--overlap", type=int, default=3, help="frames that two chunks share (default: %(default)s)"
    )
    parser.add_argument(
        "--alignment", choices=ALIGNMENTS, default="sim3", help="how chunks are joined (default: %(default)s)"
    )
    parser.add_argument(
        "--encode-batch", type=positive, default=1, help="frames encoded at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--compare",
        type=positive,
        default=60,
        help="chunks to run through the bare model too (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, default=1, help="torch threads on the CPU (default: %(default)s)"
    )


class Took(NamedTuple):
    """Seconds of one chunk. On a busy machine processor time says more than clock time."""

    clock: float
    processor: float


class Stopwatch:
    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> Took:
        return Took(time.perf_counter() - self._clock, time.process_time() - self._processor)


@dataclass
class Measured:
    frames: list[int] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)  # MB
    on_gpu: list[float] = field(default_factory=list)  # MB
    chunk_times: list[float] = field(default_factory=list)  # s, per chunk of the stream
    pairs: list[tuple[Took, Took]] = field(default_factory=list)  # stream and bare model


def run(args: argparse.Namespace) -> int:
    least = 2 * args.chunk_size - args.overlap  # the first chunk only warms up
    if args.frames < least:
        print(f"{args.frames} frames are less than two chunks: --frames must be at least {least}")
        return 2
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    model = _model(args.model, device)
    taught = StreamConfig(**model.recommended).size
    args.size = args.size or (taught if isinstance(taught, tuple) else (56, 42))
    width, height = args.size
    print(
        f"model {args.model}, {width}x{height}, chunks of {args.chunk_size} sharing {args.overlap}, "
        f"alignment {args.alignment}, {args.frames} frames, {device}, torch {torch.__version__}, "
        f"threads: {args.threads}"
    )
    with tempfile.TemporaryDirectory() as folder:
        measured = _stream(model, args, Path(folder) / "journal.txt")
    _report(measured, args)
    _report_map(device)
    return 0


def _model(name: str, device: torch.device) -> LoGeR:
    torch.manual_seed(0)
    if name == "small":
        return build_model(ModelConfig.from_dict(SMALL)).to(device).eval()
    if name in PRESETS:
        return build_model(name).to(device).eval()
    return load_model(name, device=str(device))


def _stream(model: LoGeR, args: argparse.Namespace, journal: Path) -> Measured:
    rng = np.random.default_rng(0)
    width, height = args.size
    pictures = rng.integers(0, 256, (PICTURES, height, width, 3), dtype=np.uint8)
    recon = Reconstructor(
        model,
        args.chunk_size,
        args.overlap,
        args.alignment,
        encode_batch=args.encode_batch,
        record=Journal(journal),
        keep_results=False,
    )
    bare = _bare(model, pictures, args)
    step = args.chunk_size - args.overlap
    chunks = max((args.frames - args.overlap) // step, 1)
    compare_every = max((chunks - 1) // args.compare, 1)
    sample_every = max(chunks // SAMPLES, 1)
    measured = Measured()
    pushed = 0
    for chunk in range(chunks):
        count = step if chunk else args.chunk_size
        watch = Stopwatch()
        for _ in range(count):
            recon.push(Frame(pushed * 100_000_000, pictures[pushed % PICTURES]))
            pushed += 1
        _wait(model.device)
        took = watch.read()
        measured.chunk_times.append(took.clock)
        if chunk and chunk % compare_every == 0 and len(measured.pairs) < args.compare:
            measured.pairs.append((took, next(bare)))
        if chunk % sample_every == 0:
            measured.frames.append(pushed)
            measured.resident.append(_resident())
            measured.on_gpu.append(torch.cuda.memory_allocated() / 1e6 if model.device.type == "cuda" else 0)
    assert not recon.events.counts, recon.events.counts
    return measured


@torch.no_grad()
def _bare(model: LoGeR, pictures: np.ndarray, args: argparse.Namespace) -> Iterator[Took]:
    """Run one chunk after another."""
    images = [network_input([torch.from_numpy(picture)], model.device) for picture in pictures]
    step = args.chunk_size - args.overlap
    memory, number = model.initial_memory(), 0
    features = [model.encode(images[i % PICTURES]) for i in range(args.overlap)]
    while True:
        watch = Stopwatch()
        for done in range(0, step, args.encode_batch):
            count = min(args.encode_batch, step - done)
            batch = [images[(number + i) % PICTURES] for i in range(count)]
            number += len(batch)
            encoded = model.encode(torch.cat(batch, 1))
            features += [encoded[:, i : i + 1] for i in range(len(batch))]
        chunk = type(features[0]).cat(features[: args.chunk_size])
        _, memory = model.step(chunk, memory, args.chunk_size, args.overlap)
        features = features[step : args.chunk_size]
        _wait(model.device)
        yield watch.read()


def _report(measured: Measured, args: argparse.Namespace) -> None:
    step = args.chunk_size - args.overlap
    times = measured.chunk_times[1:]  # the first chunk has more new frames and warms up
    if measured.pairs:
        stream = [pair[0].clock for pair in measured.pairs]
        bare = [pair[1].clock for pair in measured.pairs]
        ratios = [statistics.median(a[i] / b[i] for a, b in measured.pairs) for i in range(2)]
        print(
            f"speed      stream {step * len(stream) / sum(stream):.1f} frames/s, bare model "
            f"{step * len(bare) / sum(bare):.1f}; time ratio {sum(stream) / sum(bare):.3f} in all, "
            f"median {ratios[0]:.3f}, median of processor time {ratios[1]:.3f} ({len(bare)} chunks, in turn)"
        )
    tenth = max(len(times) // 10, 1)
    early, late = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
    print(
        f"chunk time first tenth {early * 1e3:.1f} ms, last tenth {late * 1e3:.1f} ms: "
        f"ratio {late / early:.3f} (medians of {tenth} chunks)"
    )
    print(f"host       {_growth(measured.frames, measured.resident)}")
    if any(measured.on_gpu):
        print(f"GPU        {_growth(measured.frames, measured.on_gpu)}")


def _growth(frames: list[int], megabytes: list[float]) -> str:
    """Describe the growth after the first tenth, in which caches and allocators fill up once."""
    skip = len(frames) // 10
    x, y = np.array(frames[skip:]) / 1000, np.array(megabytes[skip:])
    slope = np.polyfit(x, y, 1)[0] if len(x) > 2 else float("nan")
    return f"{y[0]:.1f} MB to {y[-1]:.1f} MB: slope {slope:+.4f} MB per 1,000 frames ({len(x)} samples)"


def _report_map(device: torch.device) -> None:
    """Insert the same number of points into a map that is nearly empty, half full, and always full."""
    config = MapConfig(voxel_size=0.1, max_voxels=1_000_000)
    voxels = VoxelMap(config, device)
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {"below 1/4 full": [], "1/4 to 3/4": [], "above, with evictions": []}
    for i in range(60):
        points = rng.uniform(-10, 10, (MAP_POINTS, 3)).astype(np.float32) + np.array(
            [i * 5, 0, 0], np.float32
        )
        cloud = Cloud(
            torch.from_numpy(points).to(device),
            torch.zeros(MAP_POINTS, 3, dtype=torch.uint8, device=device),
            torch.ones(MAP_POINTS, device=device),
        )
        full = len(voxels) / config.max_voxels
        label = list(taken)[0 if full < 0.25 else 1 if full < 0.75 else 2]
        start = time.perf_counter()
        voxels.insert(cloud, transform(np.eye(3), np.array([i * 5.0, 0, 0])))
        _wait(device)
        taken[label].append(time.perf_counter() - start)
    text = ", ".join(
        f"{label}: mean {statistics.mean(times) * 1e3:.0f} ms, median {statistics.median(times) * 1e3:.0f} ms"
        for label, times in taken.items()
        if times
    )
    print(f"voxel map  {MAP_POINTS} points at once, {config.max_voxels} voxels at most; {text}")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _resident() -> float:
    """Return the MB of this process now if the system reports it, else the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
