"""``loger bench weights``: memory and time to load and convert a full-size checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import re
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from loger_ros.cli import main
from loger_ros.cli.arguments import positive
from loger_ros.model import build_model, load_model
from loger_ros.model.catalog import PUBLISHED
from loger_ros.model.checkpoint import open_checkpoint

_HEIGHT, _WIDTH = 112, 140  # of the two frames that the model is tried with


_Result = TypeVar("_Result")


class _Cost(NamedTuple):
    seconds: float
    anonymous: float  # GB at the peak, beyond those before: memory that the system cannot reclaim
    resident: float  # GB at the peak of the process, including mapped pages of files


class _Loaded(NamedTuple):
    mapped: float  # seconds to open the file, without reading its values
    load: _Cost
    weights: float  # GB that the model holds
    step: float  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        default="loger",
        choices=sorted(PUBLISHED),
        help="model to take the size of (default: %(default)s)",
    )
    parser.add_argument("--folder", type=Path, help="folder with room for 13 GB of temporary files")
    parser.add_argument(
        "--repeat", type=positive, default=2, help="fresh processes per load (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    if args.folder and not args.folder.is_dir():
        raise ValueError(f"--folder {args.folder} is not a folder: choose one with 13 GB to spare")
    folder = Path(tempfile.mkdtemp(prefix="loger_bench_", dir=args.folder))
    published, wide, half = (folder / name for name in ("latest.pt", "f32.safetensors", "bf16.safetensors"))
    try:
        _in_fresh_process(_write_published, args.preset, published)
        print(
            f"{args.preset} with random weights, CPU, threads: {torch.get_num_threads()}, torch "
            f"{torch.__version__}, files in the page cache;\neach load is the worst of {args.repeat} fresh "
            "processes, each conversion one process. GB are 1e9 bytes. Anonymous memory is counted\nfrom "
            "before the call to its peak; the resident peak is the process's own, including mapped pages of "
            "files.\n"
        )
        _row("convert", "file GB", "", "s", "anonymous", "resident")
        for target, dtype in ((wide, "float32"), (half, "bfloat16")):
            cost = _in_fresh_process(_convert, published, target, dtype)
            _row(f"{published.name} → {target.name}", _gigabytes(target), "", *_shown(cost))
        print()
        _row("load", "file GB", "weights GB", "s", "anonymous", "resident", "mapped s", "first step s")
        for file, dtype in (
            (published, "float32"),
            (published, "bfloat16"),
            (wide, "float32"),
            (half, "bfloat16"),
        ):
            runs = [_in_fresh_process(_load, args.preset, file, dtype) for _ in range(args.repeat)]
            cost = _Cost(*map(max, zip(*(one.load for one in runs), strict=True)))
            mapped, step = max(one.mapped for one in runs), max(one.step for one in runs)
            _row(
                f"{file.name} as {dtype}",
                _gigabytes(file),
                f"{runs[0].weights:.2f}",
                *_shown(cost),
                f"{mapped:.2f}",
                f"{step:.1f}",
            )
    finally:
        shutil.rmtree(folder)
    return 0


# ---- in a process of its own -----------------------------------------------------------------------


def _write_published(preset: str, path: Path) -> None:
    """Write it as published: wrapped, with the prefix of a data-parallel wrapper and the unused tensors."""
    torch.manual_seed(0)
    model = build_model(preset)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    state["module.point_head.proj.weight"].mul_(0.01)  # log depths of random weights overflow their exp
    dim = model.config.decoder.dim
    for layer in range(len(model.ttt_layers)):
        state[f"module.ttt_layers.{layer}.to_qkv_stack.0.weight"] = torch.zeros(3 * dim, dim)
    torch.save({"model_state_dict": state}, path)


def _convert(source: Path, target: Path, dtype: str) -> _Cost:
    def convert() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            failed = main(["weights", "convert", str(source), str(target), "--dtype", dtype])
        if failed:
            raise RuntimeError(f"{source} could not be converted")

    return _measured(convert)[1]


def _load(preset: str, path: Path, dtype: str) -> _Loaded:
    started = time.perf_counter()
    open_checkpoint(path)
    mapped = time.perf_counter() - started
    model, cost = _measured(lambda: load_model(preset, checkpoint=path, dtype=dtype))
    weights = sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e9
    torch.manual_seed(0)
    images = torch.rand(1, 2, 3, _HEIGHT, _WIDTH)
    started = time.perf_counter()
    with torch.inference_mode():
        prediction, _ = model.step(images, model.initial_memory(), chunk_size=2, overlap=1)
    step = time.perf_counter() - started
    outputs = (prediction.local_points, prediction.confidence, prediction.camera_poses)
    if not all(output is not None and output.isfinite().all() for output in outputs):
        raise RuntimeError(f"{path} as {dtype}: the outputs are not finite")
    return _Loaded(mapped, cost, weights, step)


def _measured(call: Callable[[], _Result]) -> tuple[_Result, _Cost]:
    done = threading.Event()
    before = peak = _anonymous_bytes()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        result = call()
        seconds = time.perf_counter() - started
    finally:
        done.set()
        watcher.join()
    peak = max(peak, _anonymous_bytes())
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result, _Cost(seconds, (peak - before) / 1e9, resident / 1e9)


def _anonymous_bytes() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise RuntimeError("this system does not report the anonymous memory of a process")
    return int(found[1]) * 1024


# ---- around it -------------------------------------------------------------------------------------


def _in_fresh_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _shown(cost: _Cost) -> tuple[str, str, str]:
    return f"{cost.seconds:.1f}", f"{cost.anonymous:.2f}", f"{cost.resident:.2f}"


def _gigabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e9:.2f}"


def _row(first: str, *cells: str) -> None:
    print(f"{first:<28}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
