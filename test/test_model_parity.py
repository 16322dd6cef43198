"""The whole network against the golden numbers, chunk by chunk and tensor by tensor."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from golden import FULL, SHIPPED, Golden, error, golden, rms_error

from loger_ros.model import LoGeR, ModelConfig

LIMIT = 1e-4  # of a tensor's maximum
PLACES = [SHIPPED, FULL]


def load(place, name: str) -> Golden:
    path = place / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"{name} is not among the golden numbers found in {place}")
    return golden(name, path)


@cache
def model_of(weights: str, config: ModelConfig) -> LoGeR:
    model = LoGeR(config)
    tensors = golden(weights).tensors if weights.startswith("weights") else golden(weights).under("param.")
    model.load_state_dict({k: v for k, v in tensors.items() if "to_qkv_stack" not in k})
    return model.eval().requires_grad_(False)


def model_for(numbers: Golden, **changes) -> LoGeR:
    config = ModelConfig.from_dict(numbers.metadata["config"])
    weights = numbers.metadata["weights"].removesuffix(".safetensors")
    weights = "pi3x_metric_fp32ns" if "inside" in weights else weights
    return model_of(weights, dataclasses.replace(config, **changes))


class Trace:
    """Keeps what a step computes on its way, under the names of the fixtures."""

    def __init__(self, model: LoGeR) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.hooks = [
            block.register_forward_pre_hook(self._keep(f"hidden_in.{i}"))
            for i, block in enumerate(model.decoder)
        ]
        self.hooks.append(model.camera_decoder.register_forward_pre_hook(self._keep("decoder_out")))

    def _keep(self, name):
        def hook(_, inputs):
            x = inputs[0]
            self.tensors[name] = x.flatten(0, -2) if name.startswith("hidden") else x

        return hook

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


def run_chunks(model: LoGeR, images, windows, chunk_size, overlap, *, reset_every=0, **switches):
    """Yields each chunk's tensors under the names of the fixtures."""
    memory = model.initial_memory()
    for index, (start, end) in enumerate(windows):
        if reset_every and index and index % reset_every == 0:
            memory = model.reset_fast_weights(memory)
        trace = Trace(model)
        features = model.encode(images[:, start:end])
        prediction, memory = model.step(features, memory, chunk_size, overlap, **switches)
        trace.close()
        tensors = trace.tensors | {
            "enc": features.tokens.flatten(0, 1),
            "out.local_points": prediction.local_points,
            "out.conf": prediction.confidence,
            "out.camera_poses": prediction.camera_poses,
        }
        if prediction.metric_scale is not None:
            tensors["out.metric"] = prediction.metric_scale
        for j, weights in enumerate(memory.fast_weights):
            tensors |= {f"ttt.{j}.{name}": value for name, value in weights._asdict().items()}
        for j, (keys, values) in enumerate(memory.window):
            tensors |= {f"swa.{j}.k": keys, f"swa.{j}.v": values}
        yield tensors


def assert_equal(tensors: dict, truth: dict, limit: float, measure=error) -> None:
    assert truth
    errors = {name: measure(tensors[name], value) for name, value in truth.items()}
    wrong = {name: value for name, value in errors.items() if not value <= limit}
    assert not wrong, f"above {limit}: {wrong}"


def assert_merged(tensors: list[dict], truth: dict, overlap: int, limit: float = LIMIT) -> None:
    """Overlapping frames are those of the later chunk; no alignment."""
    for name, value in truth.items():
        parts = [t[f"out.{name}"] for t in tensors]
        merged = torch.cat([p[:, : p.shape[1] - overlap] for p in parts[:-1]] + parts[-1:], 1)
        assert error(merged, value) <= limit, name


OUT = ("camera_poses", "conf", "local_points")


@pytest.mark.parametrize("place", PLACES, ids=["shipped", "full"])
@pytest.mark.parametrize("name", ["windows_plain_fp32ns", "prenorm_se3_fp32ns", "pi3x_metric_fp32ns"])
def test_chunks_with_memory(place, name):
    numbers = load(place, name)
    forward = numbers.metadata["forward"]
    windows = numbers.metadata.get("windows", [[0, 3], [2, 5]])
    model = model_for(numbers)
    chunks = list(
        run_chunks(model, numbers["images"], windows, forward["window_size"], forward["overlap_size"])
    )
    compared = 0
    for w, tensors in enumerate(chunks):
        truth = numbers.under(f"win{w}.")
        compared += len(truth)
        if truth:
            assert_equal(tensors, truth, LIMIT)
    if not forward.get("se3"):
        merged = {k: v for k, v in numbers.under("merged.").items() if k in OUT}
        compared += len(merged)
        assert_merged(chunks, merged, forward["overlap_size"])
    elif place == SHIPPED:  # the short form has merged tensors only; confidence is not moved by alignment
        assert_merged(chunks, {"conf": numbers["merged.conf"]}, forward["overlap_size"])
        compared += 1
    assert compared


def test_a_stream_shorter_than_its_chunk():
    numbers = load(FULL, "single_window")
    for dtype, key, limit, measure in (
        ("float32", "ttt", LIMIT, error),
        ("bfloat16", "ttt_bf16", 0.10, rms_error),
    ):
        model = model_for(numbers, newton_schulz=dtype)
        (tensors,) = run_chunks(model, numbers["images"], [[0, 6]], 16, 2)
        truth = numbers.under("win0.")
        assert_equal(tensors, {k: v for k, v in truth.items() if not k.startswith("ttt")}, LIMIT)
        fast = {"ttt." + k: v for k, v in numbers.under(f"win0.{key}.").items()}
        assert_equal(tensors, fast, limit, measure)


@pytest.mark.parametrize("place", PLACES, ids=["shipped", "full"])
def test_image_shapes_and_position_tables(place):
    numbers = load(place, "image_shapes")
    model = model_for(numbers)
    for shape in numbers.metadata["shapes"]:
        truth = numbers.under(f"{shape}.")
        if not truth:
            continue
        height, width = map(int, shape.split("x"))
        assert error(model.encoder.position_table(height // 14, width // 14), truth.pop("pos_embed")) <= 1e-5
        (tensors,) = run_chunks(model, truth.pop("images"), [[0, 2]], 8, 1)
        assert_equal(tensors, {k.removeprefix("win0."): v for k, v in truth.items()}, LIMIT)


def test_fast_weights_are_forgotten_and_the_window_is_kept():
    numbers = load(FULL, "reset_every2_fp32ns")
    plain = golden("windows_plain_fp32ns")
    chunks = run_chunks(model_for(numbers), plain["images"], plain.metadata["windows"], 5, 2, reset_every=2)
    for w, tensors in enumerate(chunks):
        assert_equal(tensors, numbers.under(f"win{w}."), LIMIT)


@pytest.mark.parametrize("place", PLACES, ids=["shipped", "full"])
@pytest.mark.parametrize(
    ("prefix", "switches"),
    [("turn_off_ttt.", {"fast_weights": False}), ("turn_off_swa.", {"sliding_window": False})],
)
def test_switches(place, prefix, switches):
    numbers = load(place, "ttt_off_swa_off_fp32ns")
    images = golden("windows_plain_fp32ns")["images"][:, :8]
    for w, tensors in enumerate(run_chunks(model_for(numbers), images, [[0, 5], [3, 8]], 5, 2, **switches)):
        truth = numbers.under(f"{prefix}win{w}.")
        # The published code goes on computing the memory that nobody reads.
        dead = "ttt." if "fast_weights" in switches else "swa."
        assert_equal(tensors, {k: v for k, v in truth.items() if not k.startswith(dead)}, LIMIT)


@pytest.mark.parametrize("name", ["windows_plain_bf16ns", "prenorm_se3_bf16ns"])
def test_bfloat16_newton_schulz(name):
    numbers = load(FULL, name)
    float32 = golden(name.replace("bf16", "fp32"))
    model = model_for(numbers, newton_schulz="bfloat16")
    chunks = run_chunks(model, float32["images"], float32.metadata["windows"], 5, 2)
    for w, tensors in enumerate(chunks):
        truth = numbers.under(f"win{w}.")
        outputs = {k: v for k, v in truth.items() if not k.startswith(("ttt", "swa"))}
        if w == 0:
            assert_equal(tensors, outputs, LIMIT)  # nothing was learned yet
            assert_equal(tensors, {k: v for k, v in truth.items() if k.startswith("ttt")}, 0.10, rms_error)
        else:
            assert_equal(tensors, outputs, 0.15, rms_error)


@pytest.mark.parametrize("place", PLACES, ids=["shipped", "full"])
def test_batches_and_repeated_chunks(place):
    numbers = load(place, "batch_misc_fp32ns")
    model = model_for(numbers)
    images = numbers["images"]

    def merged(prefix: str) -> dict:
        return {k: v for k, v in numbers.under(f"{prefix}.merged.").items() if k in OUT}

    assert_merged(list(run_chunks(model, images, [[0, 3], [2, 4]], 3, 1)), merged("batch2"), 1)
    assert_merged(list(run_chunks(model, images, [[0, 2], [2, 4]], 2, 0)), merged("overlap0"), 0)
    twice = [[0, 3], [0, 3], [2, 4], [2, 4]]
    assert_merged(list(run_chunks(model, images, twice, 3, 1))[1::2], merged("iters2"), 1)
