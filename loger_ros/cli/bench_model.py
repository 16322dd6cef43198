"""``loger bench model``: time ``step`` chunk after chunk, with variants in turn within one run."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loger_ros.cli.arguments import add_device, image_size, positive
from loger_ros.model import PRESETS, LoGeR, ModelConfig, build_model, load_model
from loger_ros.model.flops import PARTS, step_flops
from loger_ros.model.footprint import footprint
from loger_ros.share import share_file
from loger_ros.training.recipe import Recipe

SMALL = "config/training/tiny.yaml"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Variant:
    """``dtype[+flash_attn][+compile][+batchN]``"""

    text: str
    dtype: torch.dtype
    attention: str
    compiled: bool
    batch: int

    @classmethod
    def parse(cls, text: str) -> Variant:
        dtype, *options = text.split("+")
        batches = [option.removeprefix("batch") for option in options if option.startswith("batch")]
        unknown = {o for o in options if not o.startswith("batch")} - {"flash_attn", "compile"}
        if dtype not in _DTYPES or unknown or not all(b.isdigit() and 0 < int(b) <= 64 for b in batches):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected {'|'.join(_DTYPES)}, then any of +flash_attn, +compile, +batchN"
            )
        attention = "flash_attn" if "flash_attn" in options else "sdpa"
        return cls(text, _DTYPES[dtype], attention, "compile" in options, int(batches[-1]) if batches else 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        help=f"{', '.join(PRESETS)} or a training recipe, with random weights; or a checkpoint "
        f"(default: loger on a GPU, {SMALL} on a CPU)",
    )
    parser.add_argument(
        "--size", type=image_size, help="width x height of the images (default: 504x280; 96x72 on a CPU)"
    )
    parser.add_argument(
        "--frames",
        type=positive,
        nargs="+",
        help="frames per chunk, one table for each (default: 32; 4 and 16 on a CPU)",
    )
    parser.add_argument(
        "--overlap", type=int, default=3, help="frames that two chunks share (default: %(default)s)"
    )
    add_device(parser)
    parser.add_argument(
        "--variants",
        type=Variant.parse,
        nargs="+",
        help="dtype[+flash_attn][+compile][+batchN]; ratios are to the first one",
    )
    parser.add_argument(
        "--repeat",
        type=positive,
        default=5,
        help="measured chunks per variant, after one warm-up (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        action="store_true",
        help="run nothing, only count the operations and memory of a preset or recipe on a GPU",
    )


def run(args: argparse.Namespace) -> int:
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"  # a CPU takes minutes for one chunk of the full-size model
    args.model = args.model or ("loger" if on_gpu else str(share_file(SMALL)))
    large = on_gpu or (args.count and args.model in PRESETS)
    args.size = args.size or ((504, 280) if large else (96, 72))
    args.frames = args.frames or ([32] if large else [4, 16])
    variants = args.variants or [Variant.parse("bfloat16" if on_gpu else "float32")]
    if args.count:
        return _count(args, variants)
    width, height = args.size
    print(
        f"model {args.model}, {width}x{height}, {_device_name(device)}, torch {torch.__version__}, "
        f"threads: {torch.get_num_threads()}; median of {args.repeat} chunks, variants in turn, "
        "each with the memory carried from the chunk before"
    )
    with torch.no_grad():
        for frames in args.frames:
            _bench_chunk(args, variants, device, frames)
    return 0


def _count(args: argparse.Namespace, variants: list[Variant]) -> int:
    """Print what a GPU would need, whatever device this runs on."""
    config = _config(args.model)
    if config is None:
        print("loger bench model: --count needs a preset or a training recipe", file=sys.stderr)
        return 2
    if unread := [variant.text for variant in variants if variant.text not in _DTYPES]:
        print(f"loger bench model: --count takes dtypes only, not {unread[0]}", file=sys.stderr)
        return 2
    width, height = args.size
    print(
        f"model {args.model}, {width}x{height}, chunks that share {args.overlap} frames, images encoded one "
        "by one, fused attention; only counted, nothing is run"
    )
    print(f"{'frames':>6} {'dtype':10} {'TFLOP/chunk':>11} {'weights GB':>10} {'other, at most GB':>22}")
    for frames in args.frames:
        flops = sum(step_flops(config, frames, (height, width), history_frames=frames).values())
        for name, dtype in {variant.text: variant.dtype for variant in variants}.items():
            overlap = min(args.overlap, frames - 1)
            weights, beside = footprint(config, dtype, (height, width), frames, overlap)
            print(f"{frames:6} {name:10} {flops / 1e12:11.4g} {weights / 1e9:10.3g} {beside / 1e9:22.3g}")
    return 0


def _bench_chunk(
    args: argparse.Namespace, variants: list[Variant], device: torch.device, frames: int
) -> None:
    width, height = args.size
    runners = {}
    for variant in variants:
        others = _allocated(device)
        model = _model(args.model, variant, device)
        images = torch.rand(variant.batch, frames, 3, height, width, device=device)
        runners[variant.text] = Runner(model, images, args.overlap, variant)
        runners[variant.text].chunk()  # warms up and makes the memory that the next chunk starts with
        runners[variant.text].chunk()
        runners[variant.text].own = _allocated(device) - others
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = {}
    for _ in range(args.repeat):
        for name, runner in runners.items():
            others = _allocated(device) - runner.own
            _reset_peak(device)
            seconds[name].append(_timed(runner.chunk, device))
            peaks[name] = _peak(device) - others

    config = runners[variants[0].text].model.config
    flops = step_flops(config, frames, (height, width), history_frames=frames)
    total = sum(flops.values())
    print(f"\n{frames} frames per chunk, {total / 1e12:.4g} TFLOP per chunk (analytic)")
    print(f"{'variant':28} {'ms/chunk':>10} {'ms/frame':>9} {'TFLOP/s':>8} {'peak GiB':>9} {'ratio':>7}")
    baseline = statistics.median(seconds[variants[0].text]) / variants[0].batch
    for variant in variants:
        median = statistics.median(seconds[variant.text]) / variant.batch
        print(
            f"{variant.text:28} {median * 1e3:10.2f} {median / frames * 1e3:9.3f} "
            f"{total / median / 1e12:8.3f} {_gib(peaks[variant.text])} {median / baseline:7.3f}"
        )

    first = runners[variants[0].text]
    if not variants[0].compiled:
        by_part = _time_parts(first, device)
        print(f"parts of {variants[0].text}, waiting for each:")
        for part in PARTS:
            spent = by_part[part]
            rate = flops[part] * variants[0].batch / spent / 1e12 if spent else 0.0
            print(f"  {part:18} {flops[part] / 1e12:9.4g} TFLOP {spent * 1e3:9.2f} ms {rate:8.3f} TFLOP/s")


class Runner:
    """One variant and the memory it carries from chunk to chunk."""

    def __init__(self, model: LoGeR, images: Tensor, overlap: int, variant: Variant) -> None:
        self.model, self.images, self.overlap = model, images, overlap
        self.memory = model.initial_memory()
        self.own = 0.0  # bytes that it holds on the GPU between two chunks
        step: Callable = torch.compile(model.step, dynamic=False) if variant.compiled else model.step
        self._step = step

    def chunk(self) -> None:
        frames = self.images.shape[1]
        _, self.memory = self._step(self.images, self.memory, frames, min(self.overlap, frames - 1))


def _model(name: str, variant: Variant, device: torch.device) -> LoGeR:
    config = _config(name)
    if config is not None:
        with device:
            model = build_model(config).eval().requires_grad_(False)
        model.hold_products(variant.dtype)
    else:
        model = load_model(name, device=str(device), dtype=str(variant.dtype).removeprefix("torch."))
    model.set_attention_backend(variant.attention)
    return model


def _config(name: str) -> ModelConfig | None:
    """Return the configuration of a preset or a recipe; a checkpoint has it in the file."""
    if name in PRESETS:
        return PRESETS[name]
    return Recipe.from_yaml(name).model if name.endswith(".yaml") else None


def _time_parts(runner: Runner, device: torch.device) -> dict[str, float]:
    """Return the seconds spent in each part's modules; waiting for each of them loses some overlap."""
    spent: dict[str, float] = defaultdict(float)
    started: dict[nn.Module, float] = {}
    hooks = []

    def begin(module: nn.Module, _inputs: object) -> None:
        _wait(device)
        started[module] = time.perf_counter()

    def end(part: str) -> Callable:
        def hook(module: nn.Module, _inputs: object, _output: object) -> None:
            _wait(device)
            spent[part] += time.perf_counter() - started[module]

        return hook

    for part, module in _modules_of_parts(runner.model):
        hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end(part))]
    runner.chunk()
    for hook in hooks:
        hook.remove()
    return spent


def _modules_of_parts(model: LoGeR) -> Iterator[tuple[str, nn.Module]]:
    yield "encoder", model.encoder
    for i, block in enumerate(model.decoder):
        yield PARTS[1 + i % 2], block
    for layer in model.ttt_layers:
        yield "fast weights", layer
    for layer in model.swa_layers:
        yield "sliding window", layer
    for name, child in model.named_children():
        if name.startswith(("point_", "conf_", "camera_", "metric_")):
            yield "heads", child


def _timed(function: Callable[[], None], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> float:
    """Return the peak of bytes on the GPU since the last reset; NaN on a CPU, which does not count them."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else float("nan")


def _allocated(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0.0


def _gib(count: float) -> str:
    return f"{'-':>9}" if math.isnan(count) else f"{count / 2**30:9.2f}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
