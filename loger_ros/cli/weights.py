"""``loger weights``: fetch, verify, convert or average checkpoints. Only ``fetch`` downloads anything."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from loger_ros.download import DownloadError, Request, download
from loger_ros.files import sha256_of
from loger_ros.model.catalog import NAMES, PUBLISHED, cache_folder, find_checkpoint
from loger_ros.model.checkpoint import (
    CheckpointError,
    NotRead,
    not_finite,
    open_checkpoint,
    save_checkpoint,
)
from loger_ros.model.verify import CheckpointReport, looked_at, verify_checkpoint
from loger_ros.model.weights import DTYPES, fitted_model, held_dtype, located, recommended, stream_settings

_MAX_BYTES = 16 * 10**9  # three times a full LoGeR checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="weights_command", required=True, metavar="WHAT")

    fetch = commands.add_parser("fetch", help="download a published checkpoint, about 5 GB")
    fetch.add_argument("name", choices=sorted(PUBLISHED), help="the checkpoint to download")
    fetch.add_argument(
        "--to", type=Path, metavar="FOLDER", help="target (default: $LOGER_CHECKPOINTS or the user's cache)"
    )
    fetch.add_argument("--url", help="another https address to download it from")
    fetch.add_argument("--sha256", type=_sha256, help="digest to require (default: what the hub announces)")
    fetch.set_defaults(weights_run=_fetch)

    verify = commands.add_parser("verify", help="say what a checkpoint is and whether it is intact")
    verify.add_argument("source", metavar="FILE", help=f"a file, or {', '.join(NAMES)}")
    verify.set_defaults(weights_run=_verify)

    convert = commands.add_parser("convert", help="write a smaller, self-describing safetensors file")
    convert.add_argument("source", metavar="IN", help=f"a file, or {', '.join(NAMES)}")
    convert.add_argument("target", type=Path, metavar="OUT", help="a new .safetensors file")
    convert.add_argument(
        "--dtype",
        choices=[name for name in DTYPES if name != "float64"],
        default="bfloat16",
        help="dtype of the weights (default: %(default)s)",
    )
    convert.add_argument(
        "--config",
        type=Path,
        help="YAML file with the model's configuration, for a .pt that is not LoGeR or LoGeR*",
    )
    convert.add_argument(
        "--stream", type=Path, metavar="FILE", help="YAML file of stream settings for OUT to recommend"
    )
    convert.set_defaults(weights_run=_convert)

    mean = commands.add_parser("mean", help="average the weights of runs that started from the same model")
    mean.add_argument("sources", nargs="+", metavar="IN", help=f"files, or {', '.join(NAMES)}")
    mean.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new .safetensors file")
    mean.set_defaults(weights_run=_mean)


def run(args: argparse.Namespace) -> int:
    try:
        return int(args.weights_run(args))
    except (CheckpointError, DownloadError, ValueError) as error:
        print(f"loger weights: {error}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"loger weights: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        if args.weights_run is _fetch:
            print("\nThe same command continues the download from here.", file=sys.stderr)
        raise
    return 1


def _fetch(args: argparse.Namespace) -> int:
    published = PUBLISHED[args.name]
    chosen = args.to or os.environ.get("LOGER_CHECKPOINTS") or cache_folder()
    if chosen is None:
        raise ValueError("this user has no home directory with a cache: choose a folder with --to")
    target = Path(os.path.expanduser(chosen)) / f"{args.name}.pt"
    url = args.url or published.url

    def check(file: Path, source: str = url) -> None:
        try:
            report = looked_at(file, contents=False)
        except NotRead:
            raise  # keep what has arrived
        except CheckpointError as error:
            raise DownloadError(str(error)) from error
        if report.model != args.name:
            raise DownloadError(f"{source} is {report.message}, not {published.title}")

    there = target if args.to else find_checkpoint(args.name) or target
    if there.exists():
        again = "removing it allows a new download"
        try:
            check(there, str(there))
        except DownloadError as error:
            raise DownloadError(f"{error}. The file was there already; {again}") from error
        if args.sha256 and (digest := sha256_of(there)) != args.sha256:
            raise DownloadError(
                f"{there} is there already, but its SHA-256 is {digest} instead of {args.sha256}; {again}"
            )
        print(f"{there} is there already; 'loger weights verify' checks its values, and {again}")
        return 0

    progress = _Progress(args.name)
    digest = download(
        Request(
            url,
            target,
            max_bytes=_MAX_BYTES,
            sha256=args.sha256,
            check=check,
            progress=progress,
            notify=lambda sentence: print(f"\n{sentence}", file=sys.stderr),
        )
    )
    progress.end()
    print(f"{target}\nSHA-256 {digest}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    report = verify_checkpoint(_file(args.source))
    print(report.message, file=sys.stdout if report.ok else sys.stderr)
    if report.kind:
        _describe(report)
    return 0 if report.ok else 1


def _file(source: str) -> Path:
    return located(source) if source in NAMES else Path(source)


def _describe(report: CheckpointReport) -> None:
    rows = {
        "file": f"{report.kind}, {report.size:,} bytes",
        "model": report.model,
        "tensors": f"{report.tensors:,} with {report.parameters:,} parameters",
        "values": ", ".join(report.dtypes),
        "not finite": ", ".join(report.not_finite[:20]) or "none",
        "SHA-256": report.sha256,
    }
    for name, value in rows.items():
        print(f"  {name:<11} {value}")


def _convert(args: argparse.Namespace) -> int:
    _check_target(args.target)
    checkpoint = open_checkpoint(_file(args.source))
    model = fitted_model(checkpoint, args.config)
    stream = stream_settings(args.stream, checkpoint) if args.stream else recommended(checkpoint)
    products, dtype = model.product_weights(), DTYPES[args.dtype]
    shapes = {
        name: (held_dtype(name, products, dtype), tensor.shape) for name, tensor in checkpoint.tensors.items()
    }
    size = sum(held.itemsize * shape.numel() for held, shape in shapes.values())
    free = shutil.disk_usage(args.target.resolve().parent).free
    if free < size:
        raise ValueError(f"{args.target}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
    save_checkpoint(
        args.target,
        shapes,
        model.config.to_dict(),
        lambda name: _finite(name, checkpoint.copy(name, shapes[name][0])),
        stream,
        checkpoint.carried,
    )
    print(f"{args.target}: {args.target.stat().st_size:,} bytes, was {checkpoint.path.stat().st_size:,}")
    return 0


def _mean(args: argparse.Namespace) -> int:
    """Write the mean of several checkpoints, in float32."""
    _check_target(args.out)
    checkpoints = [open_checkpoint(_file(source)) for source in args.sources]
    config = fitted_model(checkpoints[0]).config
    for checkpoint in checkpoints[1:]:
        if fitted_model(checkpoint).config != config:
            raise ValueError(f"{checkpoint.path} is a model of other sizes than {checkpoints[0].path}")
    shapes = {name: (torch.float32, tensor.shape) for name, tensor in checkpoints[0].tensors.items()}

    def mean(name: str) -> Tensor:
        total = checkpoints[0].copy(name, torch.float32)
        for checkpoint in checkpoints[1:]:
            total += checkpoint.copy(name, torch.float32)
        return _finite(name, total / len(checkpoints))

    first = checkpoints[0]
    save_checkpoint(args.out, shapes, config.to_dict(), mean, first.stream, first.carried)
    print(f"{args.out}: the mean of {len(checkpoints)} models, {args.out.stat().st_size:,} bytes")
    return 0


def _finite(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor, or raise if loading it would be refused."""
    if not_finite({name: tensor}):
        kind = str(tensor.dtype).removeprefix("torch.")
        cure = "'loger weights verify' says which of the files is broken"
        if tensor.dtype == torch.float16:
            cure = f"float16 ends at 65504: choose bfloat16; if that fails too, {cure}"
        raise CheckpointError(f"{name} would not be finite in {kind}, so nothing was written: {cure}")
    return tensor


def _check_target(target: Path) -> None:
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: the result is a safetensors file, so its name must end in .safetensors")
    if target.exists():
        raise ValueError(f"{target} exists already: remove it or choose another name")


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("expected 64 hexadecimal digits")
    return text.lower()


class _Progress:
    """One line that changes in place on a terminal; in a log, one line for each tenth."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = sys.stderr.isatty()
        self._begin: tuple[float, int] | None = None  # time and bytes at the start
        self._shown = -1.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._begin is None:
            self._begin = (now, done)
        step = now * 2 if self._terminal else 10 * done / total if total else done / 1e9
        if int(step) == int(self._shown) and done != total:
            return
        self._shown = step
        rate = (done - self._begin[1]) / max(now - self._begin[0], 1e-3)
        line = f"{self._name}: {done / 1e9:.2f} GB"
        if total:
            left = (total - done) / rate if rate else 0
            line += f" of {total / 1e9:.2f}, {100 * done / total:3.0f} %, {left / 60:.0f} min left"
        line += f", {rate / 1e6:.1f} MB/s"
        print(
            f"\r{line}\033[K" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr
        )

    def end(self) -> None:
        if self._terminal:
            print(file=sys.stderr)
