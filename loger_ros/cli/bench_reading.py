"""``loger bench reading``: how fast recordings are read, compared with reading the bare bytes of the files.

The files were just written, or read once before, so this measures the work on their bytes, not the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from loger_ros.cli.arguments import image_size, positive
from loger_ros.evaluation.export.bags import write_source_bag
from loger_ros.evaluation.sources import SourceError, open_source
from loger_ros.evaluation.sources.ahead import read_ahead
from loger_ros.evaluation.sources.base import quiet_log
from loger_ros.types import Camera, Frame, Trajectory

PICTURES = 8  # different ones, used in turn
BLOCK = 1 << 20  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", help="recordings to read (default: some made for the purpose)")
    parser.add_argument(
        "--frames", type=positive, default=100, help="frames per recording (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=image_size,
        default=(1241, 376),
        help="image size of the recordings made here (default: KITTI's)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=3, help="rounds to take the median of (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        if args.sources:
            _report([(source, Path(source)) for source in args.sources], args)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            _report(list(_made(Path(folder), args)), args)
    except BrokenPipeError:
        raise
    except (SourceError, ValueError, OSError) as error:
        print(f"loger bench reading: {error}", file=sys.stderr)
        return 2
    return 0


def _report(recordings: Sequence[tuple[str, Path]], args: argparse.Namespace) -> None:
    print(
        f"median of {args.rounds} rounds, bare bytes and recording in turn; at most {args.frames} frames each"
    )
    print(f"{'':24} frames/s  frames/s ahead  MB/s of file  time / bare bytes")
    for name, path in recordings:
        files = getattr(open_source(path), "files", None) or _files(path)
        size, frames = sum(file.stat().st_size for file in files), 0
        bare, read, ahead = [], [], []
        for _ in range(args.rounds):
            bare.append(_timed(partial(_read_bytes, files))[0])
            seconds, frames = _timed(partial(_read, path, args.frames, False))
            read.append(seconds)
            ahead.append(_timed(partial(_read, path, args.frames, True))[0])
        share = frames / max(len(open_source(path)), 1)  # of the file that was read
        middle, alone = float(np.median(read)), float(np.median(bare)) * share
        print(
            f"{name:24} {frames / middle:8.0f}  {frames / float(np.median(ahead)):14.0f}"
            f"  {size * share / middle / 1e6:12.0f}  {middle / alone:17.1f}"
        )


def _made(folder: Path, args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    recording = _Pictures(args.frames, args.size)
    for ending in ("png", "jpg"):
        (folder / ending).mkdir()
        for i, frame in enumerate(recording.frames()):
            Image.fromarray(frame.image).save(folder / ending / f"{i:06d}.{ending}")
        yield f"folder of {ending}", folder / ending
    write_source_bag(recording, folder / "bag", lambda count: None)
    yield "mcap, raw images", folder / "bag"


class _Pictures:
    """Images like photographs: smooth, with some noise."""

    name, kind = "pictures", "made"

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.camera: Camera | None = None
        self.problems = quiet_log()
        rng = np.random.default_rng(0)
        coarse = rng.uniform(0, 255, (PICTURES, 12, 16, 3)).astype(np.float32)
        smooth = [cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in coarse]
        noise = rng.normal(0, 3, (size[1], size[0], 3))
        self._images = [np.clip(picture + noise, 0, 255).astype(np.uint8) for picture in smooth]
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def stamps(self) -> Sequence[int]:
        return [1_000_000_000 + i * 100_000_000 for i in range(self._count)]

    def frames(self) -> Iterator[Frame]:
        for i, stamp in enumerate(self.stamps):
            yield Frame(stamp, self._images[i % PICTURES])

    def truth(self) -> Trajectory | None:
        return None

    def depth(self, stamp: int) -> np.ndarray | None:
        return None


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _read_bytes(files: Sequence[Path]) -> int:
    total = 0
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                total += len(block)
    return total


def _read(path: Path, most: int, ahead: bool) -> int:
    """Return the number of frames read."""
    frames = open_source(path).frames()
    return sum(1 for _ in islice(read_ahead(frames) if ahead else frames, most))


def _timed(work: Callable[[], int]) -> tuple[float, int]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
