"""Loading: every way to name a checkpoint and a config, the dtypes, and what the log says."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pwd
import re
from pathlib import Path

import pytest
import torch
import yaml
from checkpoints import small_checkpoint
from golden import golden_path
from networks import SMALL, small_images, small_model
from safetensors.torch import load_file, save_file

from loger_ros.cli import main
from loger_ros.model import (
    PRESETS,
    CheckpointError,
    ConfigError,
    build_model,
    find_checkpoint,
    load_model,
    weights,
)
from loger_ros.model.catalog import PACKAGE_FOLDER
from loger_ros.model.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from loger_ros.model.weights import recommended_by
from loger_ros.ros import network
from loger_ros.ros.config import NetworkConfig

STAR = SMALL
PLAIN = dataclasses.replace(SMALL, ttt_pre_norm=True)


@pytest.fixture
def small_presets(monkeypatch, tmp_path):
    """The published names stand for small networks; looked in are $LOGER_CHECKPOINTS and a cache."""
    monkeypatch.setitem(PRESETS, "loger", PLAIN)
    monkeypatch.setitem(PRESETS, "loger_star", STAR)
    monkeypatch.setenv("LOGER_CHECKPOINTS", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def published_state(model) -> dict[str, torch.Tensor]:
    """As the publishers save it: data-parallel prefix, dead tensors."""
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    return state | {"module.ttt_layers.0.to_qkv_stack.0.weight": torch.zeros(48, 16)}


def same_weights(a, b) -> bool:
    return all(torch.equal(a.state_dict()[name], tensor) for name, tensor in b.state_dict().items())


@pytest.mark.parametrize("wrapped", [True, False])
def test_published_torch_file(small_presets, wrapped):
    source = small_model(ttt_pre_norm=True)
    state = published_state(source)
    (small_presets / "LoGeR").mkdir()
    torch.save(
        {"model_state_dict": state, "epoch": 3} if wrapped else state, small_presets / "LoGeR" / "latest.pt"
    )
    model = load_model("loger")
    assert same_weights(model, source)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    images = small_images(2)
    ours, _ = model.step(images, model.initial_memory(), 4, 1)
    theirs, _ = source.step(images, source.initial_memory(), 4, 1)
    torch.testing.assert_close(ours.local_points, theirs.local_points)


def test_a_torch_file_without_config_is_recognised(small_presets, tmp_path):
    for changes, config in (({"ttt_pre_norm": True}, PLAIN), ({}, STAR)):
        path = tmp_path / "weights.pth"
        torch.save(small_model(**changes).state_dict(), path)
        assert load_model(path).config == config


def test_each_published_model_is_run_as_its_publishers_run_it(small_presets, tmp_path):
    plain, star, own = (tmp_path / name for name in ("plain.pt", "star.pt", "own.safetensors"))
    torch.save(small_model(ttt_pre_norm=True).state_dict(), plain)
    torch.save(small_model().state_dict(), star)
    assert load_model(plain).recommended == {}
    assert load_model(star).recommended == {"alignment": "se3"}
    assert main(["weights", "convert", str(star), str(tmp_path / "half.safetensors")]) == 0
    assert open_checkpoint(tmp_path / "half.safetensors").stream == {"alignment": "se3"}
    assert load_model(small_checkpoint(own, chunk_size=4)).recommended == {"chunk_size": 4}  # its word counts


def test_convert_writes_how_to_run_it(tmp_path, capsys, caplog):
    """Weights with a config of their own, as others train them: nothing in the file says it."""
    model = small_model()
    source, target, settings = (tmp_path / name for name in ("own.pt", "own.safetensors", "stream.yaml"))
    torch.save(model.state_dict(), source)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(model.config.to_dict()))
    convert = ["weights", "convert", str(source), str(target), "--config", str(tmp_path / "config.yaml")]
    assert main(convert) == 0
    for _ in range(2):
        assert load_model(target).recommended == recommended_by(target, "cpu", "float32") == {}
    (told,) = (record.message for record in caplog.records if str(target) in record.message)
    assert "contains no stream settings" in told
    assert "(chunk_size 32, resolution auto)" in told
    assert "convert IN OUT --stream FILE" in told
    target.unlink()
    for text, reason in (
        ("chunk_sise: 8", "stream.chunk_sise is not a setting"),
        ("chunk_size: 2\noverlap: 2", "stream.overlap is 2; it must be less"),
        ("resolution: wide", "must be auto, native or WIDTHxHEIGHT"),
        ("- chunk_size", "holds no settings; write one per line"),
        ("chunk_size: 8\noverlap: [", "is not valid YAML: line 2: "),
    ):
        settings.write_text(text)
        assert main([*convert, "--stream", str(settings)]) == 1
        said = capsys.readouterr().err
        assert reason in said
        assert str(settings) in said
        assert not target.exists()
    settings.write_text("chunk_size: 8\nresolution: 32x24\n")
    assert main([*convert, "--stream", str(settings)]) == 0
    assert load_model(target).recommended == {"chunk_size": 8, "resolution": "32x24"}
    settings.write_text("chunk_size: 9\n")
    other = str(tmp_path / "other.safetensors")
    assert main(["weights", "convert", str(target), other, "--stream", str(settings)]) == 0
    assert load_model(other).recommended == {"chunk_size": 9, "resolution": "32x24"}


def test_the_wrong_name_is_refused_with_the_right_one(small_presets, tmp_path):
    torch.save(small_model().state_dict(), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"2 missing.*looks like LoGeR\*: load it as 'loger_star'"):
        load_model("loger", checkpoint=tmp_path / "x.pt")
    assert load_model("loger_star", checkpoint=tmp_path / "x.pt").config == STAR


def test_search_order(small_presets, tmp_path):
    assert find_checkpoint("loger") is None
    cached = tmp_path / "cache" / "loger_ros" / "checkpoints" / "loger.pt"
    cached.parent.mkdir(parents=True)
    for path in (
        cached,
        small_presets / "LoGeR" / "latest.pt",
        small_presets / "loger.pt",
        small_presets / "loger.safetensors",
    ):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert find_checkpoint("loger") == path
    with pytest.raises(ValueError, match="no checkpoint is called 'huge'"):
        find_checkpoint("huge")


def test_a_user_without_home_directory_has_no_cache(monkeypatch, capsys):
    for name in ("HOME", "XDG_CACHE_HOME", "LOGER_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_user):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert find_checkpoint("tiny") == PACKAGE_FOLDER / "tiny.safetensors"
    with pytest.raises(CheckpointError, match=f"was found in {re.escape(str(PACKAGE_FOLDER))}: run"):
        load_model("loger")
    with pytest.raises(CheckpointError, match=r"~/x\.pt does not exist"):
        load_model("~/x.pt")
    assert main(["weights", "fetch", "loger"]) == 1
    assert "choose a folder with --to" in capsys.readouterr().err


def test_a_name_is_verified(capsys):
    assert main(["weights", "verify", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("A model with its own config")


def test_a_name_without_file_says_where_it_looked_and_what_to_do(small_presets, capsys):
    with pytest.raises(
        CheckpointError,
        match=r"'loger' was found in .*mine.*loger weights fetch loger.* instead of the name",
    ):
        load_model("loger")
    with pytest.raises(CheckpointError, match=r"Loger does not exist; .* by name: loger, loger_star, tiny"):
        load_model("Loger")
    assert main(["weights", "verify", "loger"]) == 1
    assert "loger weights fetch loger" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no model is called 'huge'; known models: loger, loger_star"):
        build_model("huge")
    with pytest.raises(ValueError, match="is already a path"):
        load_model(golden_path("weights_a"), checkpoint="x.pt")


def test_embedded_config():
    model = load_model(golden_path("weights_a"))
    assert model.config.encoder.img_size == 84
    assert model.config.attn_insert_after == (2, 6)


def test_explicit_config_as_object_mapping_and_yaml(tmp_path):
    source = small_model(seed=3)
    save_file(source.state_dict(), tmp_path / "bare.safetensors")
    values = json.loads(json.dumps(SMALL.to_dict()))
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "published.yaml").write_text(yaml.safe_dump({"model": values | {"se3": True}, "seed": 1}))
    for config in (
        SMALL,
        values,
        {"model": values},
        tmp_path / "ours.yaml",
        str(tmp_path / "published.yaml"),
    ):
        assert same_weights(load_model(tmp_path / "bare.safetensors", config=config), source)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1\n- 2\n", "no section with model sizes"),
        ("model: 3\n", "no section with model sizes"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nmodel: [*b, *b]\n", "aliases"),
        ("x: " + "y" * 70_000, "longer than"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("model: {width: 3}", "width: unknown field"),
        ("[" * 200, "deep nesting"),
    ],
)
def test_a_bad_yaml_is_refused(tmp_path, text, problem):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load_model(golden_path("weights_a"), config=tmp_path / "config.yaml")


def test_a_missing_yaml_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        load_model(golden_path("weights_a"), config=tmp_path / "none.yaml")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", torch.bfloat16])
def test_half_precision_is_for_products_only(dtype):
    model = load_model(golden_path("weights_a"), dtype=dtype)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    wide = torch.float64 if wanted is torch.float64 else torch.float32
    products = model.product_weights()
    assert products
    assert model.dtype == wanted
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == (wanted if name in products else wide), name
        assert tensor.is_contiguous()
    truth = load_file(golden_path("weights_a"))
    assert all(torch.equal(t, truth[n].to(t.dtype)) for n, t in model.state_dict().items())


def test_a_half_precision_file_may_be_held_wide(tmp_path):
    source = small_model().bfloat16()
    save_file(source.state_dict(), tmp_path / "half.safetensors")
    model = load_model(tmp_path / "half.safetensors", config=SMALL)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_values_beyond_float16_are_refused_not_made_infinite(tmp_path):
    source = small_model()
    with torch.no_grad():
        source.decoder[1].mlp.fc1.weight[0, 0] = 1e5
    save_file(source.state_dict(), tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match=r"1 tensors are not finite in float16.*choose bfloat16"):
        load_model(tmp_path / "large.safetensors", config=SMALL, dtype="float16")
    load_model(tmp_path / "large.safetensors", config=SMALL, dtype="bfloat16")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_file_may_be_cut_or_overwritten_under_a_loaded_model(tmp_path, suffix):
    """A window into the file would follow the change, or end the process."""
    source, path = small_model(), tmp_path / f"weights.{suffix}"
    torch.save(source.state_dict(), path) if suffix == "pt" else save_file(source.state_dict(), path)
    model = load_model(path, config=SMALL)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))
    assert same_weights(model, source)
    os.truncate(path, 0)
    assert same_weights(model, source)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_memory_behind_a_window_is_let_go_and_can_be_read_again(tmp_path, suffix):
    values, path = torch.randn(2_000_000), tmp_path / f"weights.{suffix}"
    torch.save({"a": values}, path) if suffix == "pt" else save_file({"a": values}, path)
    checkpoint = open_checkpoint(path)
    for _ in range(2):
        before = resident_file_pages()
        assert torch.equal(checkpoint.tensors["a"], values)
        read = resident_file_pages()
        assert torch.equal(checkpoint.copy("a", torch.float32), values)
        assert read - before > 7_000
        assert resident_file_pages() - before < 1_000


def resident_file_pages() -> int:
    """kB of this process."""
    return int(re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def test_dtype_device_and_attention_are_checked():
    path = golden_path("weights_a")
    with pytest.raises(ValueError, match="dtype: expected auto or one of float32, bfloat16"):
        load_model(path, dtype="int8")
    for device in ("gpu", "mps", "cuda:x"):
        with pytest.raises(ValueError, match="device: expected 'auto', 'cpu', 'cuda' or 'cuda:0'"):
            load_model(path, device=device)
    with pytest.raises(ValueError, match="flash_attn cannot run here"):
        load_model(path, attention="flash_attn")


def test_cuda_without_cuda_names_the_cure(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'cuda:0' was asked for, but torch .* choose device 'cpu'"):
        load_model(golden_path("weights_a"), device="cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="'cuda:2' was asked for, but the last GPU is cuda:1"):
        load_model(golden_path("weights_a"), device="cuda:2")


@pytest.mark.parametrize(("capability", "fits"), [((7, 5), "float16"), ((8, 7), "bfloat16")])
def test_bfloat16_is_not_for_gpus_before_ampere(monkeypatch, caplog, capability, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    held = []
    with monkeypatch.context() as without:  # a GPU to fill
        without.setattr(weights, "_fill", lambda model, opened, dtype, device: held.append((dtype, device)))
        network.load_network(NetworkConfig())
    assert held == [(getattr(torch, fits), torch.device("cuda"))]
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(CheckpointError, match="does not exist"):
            load_model("none.pt", device="cuda", dtype=dtype)
    told = [record.getMessage() for record in caplog.records]
    assert [f"compute capability {capability[0]}." in said for said in told] == [True] * (fits == "float16")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)("CUDA out of memory. Tried"),
            r"out of memory \(CUDA out of memory. Tried\): its weights take 0\.00 GB in float32; free memory",
        ),
        (RuntimeError("CUDA error: unknown error\nmore"), "unknown error: the GPU fails"),
    ],
)
def test_a_gpu_without_room_or_life_is_a_message(error, said, monkeypatch):
    def copy(*_):
        raise error

    monkeypatch.setattr(Checkpoint, "copy", copy)
    with pytest.raises(CheckpointError, match=said):
        load_model(golden_path("weights_a"))


def test_a_gpu_that_is_not_there_is_refused_by_the_node_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda:3' was asked for"):
        network.load_network(NetworkConfig(device="cuda:3"))


def test_one_line_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "loger_ros.model"):
        load_model(golden_path("weights_a"), dtype="bfloat16")
    (record,) = caplog.records
    message = record.getMessage()
    assert "1,068,714 parameters in bfloat16 on cpu, sdpa attention" in message
    assert "weights_a.safetensors" in message


def test_a_tensor_unlike_its_announcement_leaves_the_older_file(tmp_path):
    path = small_checkpoint(tmp_path / "x.safetensors")
    before = path.read_bytes()
    shapes = {"a": (torch.float32, torch.Size([2]))}
    with pytest.raises(ValueError, match=r"a: announced as torch.float32 \(2,\), got torch.float32 \(3,\)"):
        save_checkpoint(path, shapes, {}, lambda name: torch.zeros(3))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
