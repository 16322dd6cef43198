"""The golden numbers, reproduced by pushing frames one at a time."""

from __future__ import annotations

import pytest
import torch
from golden import error, golden, golden_path

from loger_ros.mapping.cloud import world_points
from loger_ros.model import load_model
from loger_ros.stream import Reconstructor
from loger_ros.types import Frame

LIMIT = 1e-4
SCALE_MODES = ("median", "median_all", "trimmed_mean", "trimmed_mean_all", "sim3_avg1")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small only get slower if threads share the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model_a():
    return load_model(golden_path("weights_a"), config=golden("windows_plain_fp32ns").metadata["config"])


def frames(images):
    """(N, 3, H, W) of multiples of 1/255 → Frames, ten per second."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Frame(i * 100_000_000, image) for i, image in enumerate(pixels)]


def streamed(model, images, **settings):
    recon = Reconstructor(model, **settings)
    for frame in frames(images):
        recon.push(frame)
    recon.flush()
    result = recon.result()
    assert result.stamps == tuple(frame.stamp for frame in frames(images))
    return result


def compare(result, expected, batch=0):
    """Everything that the fixture holds."""
    got = {
        "camera_poses": result.camera_poses,
        "local_points": result.local_points,
        "conf": result.confidence,
        "points": world_points(result.local_points, result.camera_poses),
        "chunk_se3_poses": result.chunk_poses,
        "chunk_sim3_poses": result.chunk_poses,
        "chunk_sim3_scales": result.chunk_scales,
    }
    assert "camera_poses" in expected
    for name, value in expected.items():
        assert error(got[name], value[batch]) < LIMIT, name


def test_plain_windows(model_a):
    data = golden("windows_plain_fp32ns")
    compare(streamed(model_a, data["images"][0], chunk_size=5, overlap=2), data.under("merged."))


@pytest.mark.parametrize("mode", ["se3", *(f"sim3_{name}" for name in SCALE_MODES)])
def test_merge_modes(model_a, mode):
    alignment, _, scale_mode = mode.partition("_")
    result = streamed(
        model_a,
        golden("windows_plain_fp32ns")["images"][0],
        chunk_size=5,
        overlap=2,
        alignment=alignment,
        scale_mode=scale_mode or "median",
    )
    compare(result, golden("merge_modes_fp32ns").under(f"{mode}.merged."))


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("merged.", {"reset_every": 2}),
        ("every3.merged.", {"reset_every": 3}),
        ("se3.merged.", {"reset_every": 2, "alignment": "se3"}),
        ("sim3_median.merged.", {"reset_every": 2, "alignment": "sim3"}),
    ],
)
def test_resets(model_a, prefix, settings):
    images = golden("windows_plain_fp32ns")["images"][0]
    result = streamed(model_a, images, chunk_size=5, overlap=2, **settings)
    compare(result, golden("reset_every2_fp32ns").under(prefix))


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("batch2.", {"chunk_size": 3, "overlap": 1}),
        ("overlap0.", {"chunk_size": 2, "overlap": 0}),
        ("iters2.", {"chunk_size": 3, "overlap": 1, "iterations": 2}),
        ("batch2_sim3.", {"chunk_size": 3, "overlap": 1, "alignment": "sim3"}),
    ],
)
def test_batches_iterations_and_no_overlap(model_a, prefix, settings, batch):
    data = golden("batch_misc_fp32ns")
    result = streamed(model_a, data["images"][batch], **settings)
    compare(result, data.under(f"{prefix}merged."), batch)


def test_norm_before_the_fast_weights():
    data = golden("prenorm_se3_fp32ns")
    model = load_model(golden_path("weights_b"), config=data.metadata["config"])
    result = streamed(model, data["images"][0], chunk_size=5, overlap=2, alignment="se3")
    compare(result, data.under("merged."))


def test_switched_off_is_the_published_ablation(model_a):
    data = golden("ttt_off_swa_off_fp32ns")
    images = golden("windows_plain_fp32ns")["images"][0][:8]
    for switch, prefix in (("fast_weights", "turn_off_ttt."), ("sliding_window", "turn_off_swa.")):
        result = streamed(model_a, images, chunk_size=5, overlap=2, **{switch: False})
        compare(result, data.under(f"{prefix}merged."))


def test_metric_head(tmp_path):
    from safetensors.torch import save_file

    data = golden("pi3x_metric_fp32ns")
    path = tmp_path / "pi3x.safetensors"
    save_file(data.under("param."), path)
    model = load_model(path, config=data.metadata["config"])
    expected = data.under("merged.")
    expected.pop("metric", None)
    compare(streamed(model, data["images"][0], chunk_size=3, overlap=1), expected)


@pytest.mark.parametrize("settings", [{"encode_batch": 3}, {"provisional_every": 1}])
def test_batching_and_previews_change_nothing(model_a, settings):
    images = golden("windows_plain_fp32ns")["images"][0]
    plain = streamed(model_a, images, chunk_size=5, overlap=2, alignment="sim3")
    other = streamed(model_a, images, chunk_size=5, overlap=2, alignment="sim3", **settings)
    assert error(other.camera_poses, plain.camera_poses) < 1e-5
    assert error(other.local_points, plain.local_points) < 5e-5  # torch 2.4 sums differently
    assert torch.allclose(other.confidence, plain.confidence, atol=1e-4)
