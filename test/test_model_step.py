"""``step`` is a function: memory in, memory out, and nothing is computed that was not asked for."""

from __future__ import annotations

import itertools
from unittest.mock import Mock

import pytest
import torch
from networks import small_images, small_model
from safetensors.torch import save_file

from loger_ros.model import Features, Memory, loger
from loger_ros.model.loger import OUTPUTS
from loger_ros.model.memory import MemoryFileError


@pytest.fixture(scope="module")
def model():
    return small_model().requires_grad_(False)


def tensors_of(memory: Memory) -> list[torch.Tensor]:
    return [tensor for group in (*memory.fast_weights, *memory.window) for tensor in group]


def same(a, b) -> bool:
    pairs = itertools.zip_longest(a, b)
    return all(x is not None and y is not None and torch.equal(x, y) for x, y in pairs)


def outputs_of(prediction) -> list[torch.Tensor]:
    return [getattr(prediction, name) for name in OUTPUTS]


def advance(model, memory, seed, **options):
    return model.step(small_images(4, seed=seed), memory, 4, 1, **options)


def test_memory_matters_and_the_old_one_stays_valid(model):
    _, first = advance(model, model.initial_memory(), 0)
    kept = first.clone()
    assert not {t.data_ptr() for t in tensors_of(first)} & {t.data_ptr() for t in tensors_of(kept)}
    prediction, second = advance(model, first, 1)
    assert same(tensors_of(first), tensors_of(kept))
    again, _ = advance(model, kept, 1)
    assert same(outputs_of(prediction), outputs_of(again))
    fresh, _ = advance(model, model.initial_memory(), 1)
    assert not torch.allclose(fresh.camera_poses, prediction.camera_poses, atol=1e-3)
    assert not same(tensors_of(first), tensors_of(second))


def test_each_memory_matters_alone(model):
    _, memory = advance(model, model.initial_memory(), 0)
    full, _ = advance(model, memory, 1)
    window_only, _ = advance(model, model.reset_fast_weights(memory), 1)
    fast_only, _ = advance(model, Memory(fast_weights=memory.fast_weights), 1)
    poses = [full.camera_poses, window_only.camera_poses, fast_only.camera_poses]
    for a, b in itertools.combinations(poses, 2):
        assert not torch.allclose(a, b, atol=1e-4)
    assert model.reset_fast_weights(memory).window is memory.window


def test_a_step_that_needs_no_next_memory_hands_the_given_one_on(model):
    _, memory = advance(model, model.initial_memory(), 0)
    full, _ = advance(model, memory, 1)
    prediction, same_memory = advance(model, memory, 1, update_memory=False)
    assert same(tensors_of(same_memory), tensors_of(memory))
    assert same(outputs_of(full), outputs_of(prediction))
    _, window_only = advance(model, memory, 1, update_fast_weights=False)
    assert window_only.fast_weights is memory.fast_weights
    assert not torch.equal(window_only.window[0].keys, memory.window[0].keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_memory_keeps_no_more_alive_than_it_holds(dtype):
    model = small_model().requires_grad_(False)
    model.hold_products(dtype)
    memory = model.initial_memory()
    for seed in range(2):
        _, memory = advance(model, memory, seed)
        for tensor in tensors_of(memory):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: model.hold_products(torch.bfloat16),
            "torch.float32, but the model's are torch.bfloat16.*another precision",
        ),
        (lambda model: model.double(), "torch.float32, but the model's are torch.float64.*another precision"),
        (lambda model: model.to("meta"), "on cpu, but the model is on meta: move it with memory.to"),
    ],
)
def test_the_memory_of_another_precision_or_device_is_refused(model, change, message):
    _, memory = advance(model, model.initial_memory(), 0)
    other = small_model().requires_grad_(False)
    change(other)
    features = Features(torch.zeros(1, 4, 12, 16, device=other.device), (12, 16))
    with pytest.raises(ValueError, match=rf"^memory: its .* {message}"):
        other.step(features, memory, 4, 1)
    other.step(features, other.initial_memory(), 4, 1)


def test_the_memory_of_another_model_is_refused(model):
    _, memory = advance(model, model.initial_memory(), 0)
    for changes, name in (
        ({"ttt_insert_after": (0,)}, "fast weights"),
        ({"attn_insert_after": (0, 2)}, "window"),
    ):
        other = small_model(**changes)
        with pytest.raises(ValueError, match=f"^memory: its {name}.* to another model. Start with"):
            advance(other, memory, 0)


def test_memory_of_autocast_goes_on_under_autocast():
    model = small_model().requires_grad_(False)
    memory = model.initial_memory()
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(3):
            prediction, memory = advance(model, memory, seed)
    assert prediction.camera_poses.isfinite().all()


def test_what_is_not_asked_for_is_not_computed(model):
    everything, _ = advance(model, model.initial_memory(), 0)
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_children()
        if name.endswith("_decoder")
    ]
    decoders = {
        "local_points": "point_decoder",
        "confidence": "conf_decoder",
        "camera_poses": "camera_decoder",
    }
    for name in OUTPUTS:
        called.clear()
        prediction, _ = advance(model, model.initial_memory(), 0, outputs=(name,))
        assert called == [decoders[name]]
        assert torch.equal(getattr(prediction, name), getattr(everything, name))
        assert all(getattr(prediction, other) is None for other in OUTPUTS if other != name)
    for hook in hooks:
        hook.remove()
    with pytest.raises(ValueError, match="outputs"):
        advance(model, model.initial_memory(), 0, outputs=("colour",))


def test_a_model_without_confidence(model):
    bare = small_model(conf=False)
    prediction, _ = advance(bare, bare.initial_memory(), 0)
    assert prediction.confidence is None
    assert prediction.local_points is not None


def test_frames_are_encoded_once_and_independently(model):
    images = small_images(6)
    together = model.encode(images)
    apart = Features.cat([model.encode(images[:, :2]), model.encode(images[:, 2:])])
    assert len(apart) == 6
    assert torch.allclose(together.tokens, apart.tokens, atol=1e-6)
    from_images, _ = model.step(images[:, 2:], model.initial_memory(), 4, 1)
    from_features, _ = model.step(together[:, 2:], model.initial_memory(), 4, 1)
    for a, b in zip(outputs_of(from_images), outputs_of(from_features), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    other_size = model.encode(small_images(1, size=(16, 16)))
    with pytest.raises(ValueError, match="sizes"):
        Features.cat([together, other_size])


def test_batch_elements_do_not_see_each_other(model):
    images = torch.cat([small_images(4, seed=1), small_images(4, seed=2)])
    memory, apart = model.initial_memory(), [model.initial_memory()] * 2
    for _ in range(2):
        both, memory = model.step(images, memory, 4, 1)
        singles = []
        for b in range(2):
            single, apart[b] = model.step(images[b : b + 1], apart[b], 4, 1)
            singles.append(single)
        for name in OUTPUTS:
            joined = torch.cat([getattr(single, name) for single in singles])
            assert torch.allclose(getattr(both, name), joined, atol=1e-5)


def test_switched_off_memories(model):
    _, memory = advance(model, model.initial_memory(), 0)
    bare, after = advance(model, memory, 1, fast_weights=False, sliding_window=False)
    fresh, _ = advance(model, model.initial_memory(), 1, fast_weights=False, sliding_window=False)
    assert same(outputs_of(bare), outputs_of(fresh)), "a memory that is off was read"
    assert same(tensors_of(after), tensors_of(memory))


@pytest.mark.parametrize("changes", [{"ttt_insert_after": ()}, {"attn_insert_after": ()}])
def test_networks_with_one_memory_or_none(changes):
    model = small_model(**changes)
    memory = model.initial_memory()
    for seed in range(2):
        prediction, memory = advance(model, memory, seed)
    assert bool(memory.fast_weights) != ("ttt_insert_after" in changes)
    assert torch.isfinite(prediction.local_points).all()


def test_memory_survives_a_file(model, tmp_path):
    _, memory = advance(model, model.initial_memory(), 0)
    memory.save(tmp_path / "memory.safetensors")
    restored = Memory.load(tmp_path / "memory.safetensors")
    assert same(tensors_of(memory), tensors_of(restored))
    assert memory.nbytes == restored.nbytes == sum(t.numel() * 4 for t in tensors_of(memory)) > 0
    assert same(tensors_of(memory.to("cpu")), tensors_of(memory))
    assert all(tensor.is_meta for tensor in tensors_of(memory.to("meta")))
    Memory().save(tmp_path / "empty.safetensors")
    assert Memory.load(tmp_path / "empty.safetensors").nbytes == 0


def test_files_that_hold_no_memory(model, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(MemoryFileError, match=r"file\.safetensors"):
        Memory.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(MemoryFileError, match="not a saved memory"):
        Memory.load(path)
    save_file({"window.0.keys": torch.zeros(3)}, path, {"format": "loger_ros.memory.1"})
    with pytest.raises(MemoryFileError, match="incomplete"):
        Memory.load(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 2, 3, 12, 15), "multiples of 4"),
        (torch.zeros(1, 2, 3, 0, 16), "multiples of 4"),
        (torch.zeros(2, 3, 12, 16), "float"),
        (torch.zeros(1, 2, 3, 12, 16, dtype=torch.uint8), "float"),
    ],
)
def test_images_that_are_none(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.encode(images)


def test_kept_position_tables_follow_the_weights(model):
    before = model.encode(small_images(1)).tokens
    changed = small_model(seed=1)
    changed.encode(small_images(1))
    changed.requires_grad_(False).encode(small_images(1))
    changed.load_state_dict(model.state_dict())
    assert torch.equal(changed.encode(small_images(1)).tokens, before)
    for size in ((4 * k, 16) for k in range(1, 20)):
        model.encode(small_images(1, size=size))
    assert torch.equal(model.encode(small_images(1)).tokens, before)


def test_tables_of_positions_are_made_once_for_each_image_size(monkeypatch):
    model = small_model().requires_grad_(False)
    rotary, learned = Mock(wraps=loger.rope_tables), Mock(wraps=model.encoder._resized_positions)
    monkeypatch.setattr(loger, "rope_tables", rotary)
    monkeypatch.setattr(model.encoder, "_resized_positions", learned)
    made = []
    for size in ((12, 16), (12, 16), (16, 12), (12, 16)):
        model.step(small_images(4, size=size), model.initial_memory(), 4, 1)
        made.append((rotary.call_count, learned.call_count))
    assert made == [(1, 1), (1, 1), (2, 2), (2, 2)]


@pytest.mark.parametrize("frozen", [(), ("encoder.pos_embed",)])
def test_a_training_step_may_come_after_an_inference(frozen):
    model = small_model()
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    with torch.inference_mode():
        advance(model, model.initial_memory(), 0)
    prediction, _ = advance(model, model.initial_memory(), 0)
    prediction.camera_poses.sum().backward()
    assert model.register_token.grad is not None


@pytest.mark.parametrize("size", [(12, 16), (16, 16)])
def test_a_model_made_in_inference_mode_runs(model, size):
    images = small_images(4, size=size)
    expected, _ = model.step(images, model.initial_memory(), 4, 1)
    with torch.inference_mode():
        made = small_model().requires_grad_(False)
        inside, _ = made.step(images, made.initial_memory(), 4, 1)
    with torch.no_grad():
        outside, _ = made.step(images, made.initial_memory(), 4, 1)
    assert same(outputs_of(inside), outputs_of(expected))
    assert same(outputs_of(outside), outputs_of(expected))
