"""Half precision: what is held and computed in it, how far it is from float32, and the attention backends."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden import golden, golden_path, rms_error
from networks import small_images, small_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from loger_ros import inventory
from loger_ros.model import PRESETS, LoGeR, build_model, flash, load_model
from loger_ros.model.attention import Attention
from loger_ros.model.loger import OUTPUTS

NUMBERS = golden("windows_plain_fp32ns")
HALVES = [torch.bfloat16, torch.float16]


def loaded(dtype: torch.dtype, device: str = "cpu", attention: str = "sdpa") -> LoGeR:
    config = NUMBERS.metadata["config"]
    return load_model(
        golden_path("weights_a"), config=config, dtype=dtype, device=device, attention=attention
    )


def run(model: LoGeR, chunks: int):
    memory = model.initial_memory()
    images = NUMBERS["images"].to(model.device)
    for start, end in NUMBERS.metadata["windows"][:chunks]:
        prediction, memory = model.step(images[:, start:end], memory, 5, 2)
        yield prediction, memory


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_is_held_for_products_alone(dtype):
    model = loaded(dtype)
    products = model.product_weights()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (dtype if name in products else torch.float32), name
    assert {"decoder.0.mlp.fc1.weight", "encoder.patch_embed.proj.weight"} <= products
    assert not {"camera_head.fc_t.weight", "ttt_layers.0.w0", "decoder.0.norm1.weight"} & products
    streams = []
    model.decoder[3].register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0].dtype))
    (prediction, memory), *_ = run(model, 1)
    assert streams == [torch.float32]
    assert prediction.camera_poses.dtype == prediction.local_points.dtype == torch.float32
    assert memory.fast_weights[0].w0.dtype == torch.float32
    assert memory.window[0].keys.dtype == dtype


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.15), (torch.float16, 0.03)], ids=str)
def test_half_is_near_float32(dtype, limit):
    """The golden weights amplify rounding by design; trained ones do so less."""
    exact = run(loaded(torch.float32), 3)
    for (half, _), (full, _) in zip(run(loaded(dtype), 3), exact, strict=True):
        assert rms_error(half.camera_poses, full.camera_poses) < limit
        assert rms_error(half.confidence, full.confidence) < limit
        # exponentials: compared as log depths
        assert rms_error(half.local_points[..., 2].log(), full.local_points[..., 2].log()) < limit
        turned = half.camera_poses[..., :3, :3]
        assert torch.allclose(turned @ turned.mT, torch.eye(3).expand_as(turned), atol=1e-5)


class OnMeta(TorchDispatchMode):
    """Lets nothing pass that would leave the device or wait for it."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves((arguments, options, out)) if isinstance(leaf, torch.Tensor)]
        assert all(tensor.is_meta for tensor in tensors), function
        assert function.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero")
        return out


@pytest.mark.parametrize(("name", "dtype"), list(zip(PRESETS, HALVES, strict=True)))
def test_official_networks_stay_on_their_device_and_in_their_dtypes(name, dtype):
    with torch.device("meta"):
        model = build_model(name).requires_grad_(False)
    model.hold_products(dtype)
    memory = model.initial_memory()
    with OnMeta(), torch.no_grad():
        for frames in (3, 2):
            images = torch.empty(1, frames, 3, 42, 56, device="meta")
            prediction, memory = model.step(images, memory, 3, 1)
    assert prediction.local_points.shape == (1, 2, 42, 56, 3)
    assert {getattr(prediction, output).dtype for output in OUTPUTS} == {torch.float32}
    assert {tensor.dtype for layer in memory.fast_weights for tensor in layer} == {torch.float32}
    assert {tensor.dtype for layer in memory.window for tensor in layer} == {dtype}


def test_a_network_through_flash_equals_torch(monkeypatch):
    """What flash-attn asks of its arguments, whatever part of the network they come from."""

    def stand_in(*projected):  # (B, L, heads, d)
        assert all(x.stride(-1) == 1 and x.dtype == torch.bfloat16 for x in projected)
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in projected)).transpose(1, 2)

    monkeypatch.setattr(flash, "_suited", lambda device: stand_in)
    model = small_model().requires_grad_(False)
    model.hold_products(torch.bfloat16)
    poses = []
    for backend in ("sdpa", "flash_attn"):
        for module in model.modules():
            if isinstance(module, Attention):
                module.backend = backend
        memory = model.initial_memory()
        for seed in range(3):
            prediction, memory = model.step(small_images(4, seed=seed), memory, 4, 1)
        poses.append(prediction.camera_poses)
    torch.testing.assert_close(*poses)


def test_flash_layout_against_torch(monkeypatch):
    """flash-attn wants (B, L, heads, d); a stand-in of its signature checks what we hand over."""

    def stand_in(q, k, v):
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return out.transpose(1, 2), None  # some releases return the log-sum-exp as well

    q, k, v = (torch.randn(2, 3, length, 8) for length in (5, 7, 7))
    monkeypatch.setattr(flash, "installed", lambda: (flash.Package("FlashAttention 3", stand_in),))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert torch.allclose(flash.flash_attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6)


@pytest.mark.parametrize(
    ("capability", "both", "three_alone"),
    [
        ((7, 5), None, None),
        ((8, 7), "FlashAttention 2", None),
        ((9, 0), "FlashAttention 3", "FlashAttention 3"),
        ((10, 0), "FlashAttention 2", None),
        ((12, 0), "FlashAttention 2", None),
    ],
)
def test_flash_is_the_newest_package_that_suits_the_gpu(monkeypatch, capability, both, three_alone):
    used = []
    three, two = (
        flash.Package(name, lambda q, k, v, name=name: used.append(name) or q)
        for name in ("FlashAttention 3", "FlashAttention 2")
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for packages, expected in (((three, two), both), ((three,), three_alone)):
        monkeypatch.setattr(flash, "installed", lambda packages=packages: packages)
        reason = flash.why_not_flash(torch.device("cuda"), torch.bfloat16)
        if expected is None:
            assert f"FlashAttention 3 needs compute capability 9.x, this GPU has {capability[0]}." in reason
            continue
        assert reason is None
        used.clear()
        flash.flash_attention(*torch.zeros(3, 1, 2, 4, 8))
        assert used == [expected]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("x.so: undefined symbol: _ZN3c1\nmore"), "x.so: undefined symbol: _ZN3c1"),
        (RuntimeError("0 active drivers"), "0 active drivers"),
        (ModuleNotFoundError("No module named 'einops'", name="einops"), "No module named 'einops'"),
        (OSError(), "OSError"),
    ],
)
def test_a_broken_flash_is_told_from_an_absent_one(monkeypatch, caplog, error, said):
    def broken(module):
        raise error if module == "flash_attn" else ModuleNotFoundError(name=module)

    with monkeypatch.context() as patched:
        patched.setattr(flash.importlib, "import_module", broken)
        packages = flash.installed.__wrapped__()
    problem = f"FlashAttention 2 is installed but cannot be imported: {said}"
    assert [package.problem for package in packages] == [problem]
    monkeypatch.setattr(flash, "installed", lambda: packages)
    model = small_model()
    model.hold_products(torch.bfloat16)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 7))
    assert model.set_attention_backend("auto") == "sdpa"
    (record,) = caplog.records
    assert problem + "." in record.getMessage()
    with pytest.raises(ValueError, match="cannot be imported"):
        model.set_attention_backend("flash_attn")
    finding = inventory.flash_attention()
    assert (finding.value, finding.verdict) == (problem, inventory.Verdict.NOTE)


def test_backend_is_chosen_once_and_refused_where_it_cannot_run():
    model = small_model()
    assert model.set_attention_backend("auto") == "sdpa"
    with pytest.raises(ValueError, match="CUDA GPU"):
        model.set_attention_backend("flash_attn")
    with pytest.raises(ValueError, match="attention"):
        model.set_attention_backend("fast")
    assert flash.why_not_flash(torch.device("cuda"), torch.float32).startswith("it computes in bfloat16")


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_step_does_not_wait_for_the_gpu(dtype):
    model = loaded(dtype, "cuda")
    images = NUMBERS["images"][:, :5].cuda()
    _, memory = model.step(images, model.initial_memory(), 5, 2)  # libraries load and plan here
    try:
        torch.cuda.set_sync_debug_mode("error")
        model.step(images, memory, 5, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_gpu_equals_cpu():
    for (on_gpu, _), (on_cpu, _) in zip(
        run(loaded(torch.float32, "cuda"), 3), run(loaded(torch.float32), 3), strict=True
    ):
        assert rms_error(on_gpu.camera_poses.cpu(), on_cpu.camera_poses) < 1e-3


@needs_gpu
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_flash_attention_equals_torch(dtype):
    if flash.why_not_flash(torch.device("cuda"), dtype):
        pytest.skip(flash.why_not_flash(torch.device("cuda"), dtype))
    flashed = run(loaded(dtype, "cuda", "flash_attn"), 2)
    for (a, _), (b, _) in zip(flashed, run(loaded(dtype, "cuda"), 2), strict=True):
        assert rms_error(a.camera_poses, b.camera_poses) < 0.05
