"""Files that are no good: each is refused with a sentence, none crashes, and none is run."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import random
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_path
from networks import SMALL, small_model
from safetensors.torch import save_file

from loger_ros.cli import main
from loger_ros.model import CheckpointError, checkpoint, load_model, verify_checkpoint
from loger_ros.model.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def state():
    return small_model().state_dict()


def refusal(path: Path) -> str:
    """What load_model says; verify_checkpoint must agree that the file is bad, without raising."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path, config=SMALL)
    assert not verify_checkpoint(path).ok
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


class Payload:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize(
    "where", ["beside the weights", "among the weights", "bare pickle", "old torch format"]
)
def test_a_pickle_with_a_payload_is_not_run(tmp_path, state, where):
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    payload = Payload(trace)
    if where == "bare pickle":
        path.write_bytes(pickle.dumps(payload))
    elif where == "old torch format":
        torch.save({"model_state_dict": payload}, path, _use_new_zipfile_serialization=False)
    else:
        among = where == "among the weights"
        content = {"model_state_dict": {**state, "x": payload} if among else state, "extra": payload}
        torch.save(content, path)
    message = refusal(path)
    assert not trace.exists()
    if "weights" in where:
        assert "system" in message
        assert "nothing was run" in message
    else:
        assert "bare pickle" in message
    pickle.loads(pickle.dumps(payload))  # the trap is a real one
    assert trace.exists()


leaves_out = pytest.mark.skipif(
    not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"), reason="needs torch 2.6"
)


class Call:
    """Pickles as a call of something that torch's loader does not know of."""

    def __init__(self, called, *arguments) -> None:
        self.parts = called, arguments

    def __reduce__(self):
        return self.parts


def beside(trace: Path) -> dict:
    """What a trainer may leave in a file."""
    return {
        "call": Call(open, str(trace), "w"),
        "args": argparse.Namespace(rate=1e-4, folder=Path("runs")),
        "best": np.float64(0.3),
        "random": np.random.get_state(),
    }


@leaves_out
def test_what_lies_beside_the_weights_is_left_out_and_not_run(tmp_path, state):
    trace, path = tmp_path / "trace", tmp_path / "trained.pt"
    torch.save({"model_state_dict": state, **beside(trace)}, path)
    assert load_model(path, config=SMALL).state_dict().keys() == state.keys()
    torch.save({"model_state_dict": state | beside(trace)}, path)
    assert "'call', a open, among its tensors" in refusal(path)
    torch.save({"model_state_dict": state, "counts": collections.defaultdict(int, a=1)}, path)
    assert "holds more than tensors" in refusal(path)
    assert not trace.exists()
    allowed = torch.serialization.get_safe_globals()
    assert not [kind for kind in allowed if isinstance(kind, type) and issubclass(kind, checkpoint._LeftOut)]
    pickle.loads(pickle.dumps(beside(trace)))["call"].close()  # the trap is a real one
    assert trace.exists()


@leaves_out
def test_names_without_end_are_not_taken(tmp_path, state):
    many = [type(f"Kind{i}", (), {"__module__": "elsewhere"}) for i in range(101)]
    elsewhere = types.ModuleType("elsewhere")
    for kind in many:
        setattr(elsewhere, kind.__name__, kind)
    sys.modules["elsewhere"] = elsewhere
    try:
        torch.save({"model_state_dict": state, "x": [kind() for kind in many]}, tmp_path / "x.pt")
    finally:
        del sys.modules["elsewhere"]
    assert "asks to run or build elsewhere.Kind" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("part", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_file(tmp_path, state, suffix, part):
    path = tmp_path / f"weights.{suffix}"
    torch.save(state, path) if suffix == "pt" else save_file(state, path)
    os.truncate(path, int(part * path.stat().st_size))
    assert "cut short" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("page.pt", b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        ("page.safetensors", b"\n  <html>", "a web page"),
        (
            "pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "git lfs pull",
        ),
        (
            "model.safetensors.index.json",
            b'{\n  "metadata": {"total_size": 9},\n  "weight_map": {"a": "model-1.safetensors"}\n}',
            "several files: join them",
        ),
        ("empty.pt", b"", "is empty"),
        ("noise.pt", bytes(range(1, 200)), "neither a torch checkpoint nor a safetensors file"),
        ("short.safetensors", b"\x01", "neither"),
        ("absurd.safetensors", (2**62).to_bytes(8, "little") + b"{}", "cut short, damaged"),
        ("absurd2.safetensors", (2**31).to_bytes(8, "little") + b"{" + b" " * 1000, "cut short, damaged"),
        ("garbled.safetensors", (10).to_bytes(8, "little") + b"{'broken' }", "cut short, damaged"),
        ("nothing.safetensors", (2).to_bytes(8, "little") + b"{}", "too few"),
    ],
)
def test_something_else_under_the_name_of_a_checkpoint(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    assert reason in refusal(tmp_path / name)


def test_a_torch_file_under_the_name_of_the_other_kind(tmp_path, state):
    torch.save(state, tmp_path / "weights.safetensors")
    assert "is a torch file: give it a name that ends in .pt" in refusal(tmp_path / "weights.safetensors")


def test_no_file_at_all(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.pt")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    assert "not a regular file" in refusal(tmp_path / "pipe.pt")


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"PK")

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read: Permission denied" in refusal(path)


@pytest.mark.parametrize(("suffix", "reader"), [("pt", torch), ("safetensors", checkpoint)])
def test_an_error_that_says_nothing_is_named(tmp_path, state, monkeypatch, suffix, reader):
    def silent(*_args, **_kwargs):
        raise KeyError

    path = tmp_path / f"weights.{suffix}"
    torch.save(state, path) if suffix == "pt" else save_file(state, path)
    monkeypatch.setattr(reader, "load" if suffix == "pt" else "safe_open", silent)
    assert refusal(path).endswith(": KeyError")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list"),
        ({"model": {"a": torch.zeros(1)}, "epoch": 1}, "neither tensors nor 'model_state_dict'"),
        ({"model_state_dict": {"a": torch.zeros(1), "b": "text"}}, "holds 'b', a str, among its tensors"),
        ({"a": torch.zeros(3, dtype=torch.int64)}, "a is int64"),
        ({"a": torch.eye(3).to_sparse()}, "weights are dense"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "holds a twice"),
        ({"a": torch.zeros(1).expand(10**9)}, "larger than the file"),
        ({3: torch.zeros(1)}, "holds 3, a Tensor"),
    ],
)
def test_a_torch_file_of_something_else(tmp_path, content, reason):
    torch.save(content, tmp_path / "other.pt")
    assert reason in refusal(tmp_path / "other.pt")


def test_archives_that_torch_did_not_write(tmp_path, state):
    plain, packed, other = tmp_path / "plain.pt", tmp_path / "packed.pt", tmp_path / "other.pt"
    torch.save(state, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    assert "compressed archive" in refusal(packed)
    with zipfile.ZipFile(other, "w") as new:
        new.writestr("readme.txt", "hello")
    assert "torch.save did not write it" in refusal(other)


def test_the_weights_of_another_network(tmp_path, state):
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(20))).state_dict(), path)
    assert "another network" in refusal(path)

    save_file({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "prefix.safetensors")
    assert "begin with 'model.'" in refusal(tmp_path / "prefix.safetensors")

    wrong = {**state, "register_token": torch.zeros(1, 1, 2, 8)}
    del wrong["pe_token_1"]
    save_file(wrong, tmp_path / "wrong.safetensors")
    message = refusal(tmp_path / "wrong.safetensors")
    assert f"1 missing (of {len(state)}): pe_token_1" in message
    assert "register_token 1x1x2x8 instead of 1x1x2x16" in message


def test_long_lists_are_cut(tmp_path, state):
    save_file({**state, **{f"extra{i}": torch.zeros(1) for i in range(30)}}, tmp_path / "more.safetensors")
    message = refusal(tmp_path / "more.safetensors")
    assert f"30 unexpected (of {len(state)})" in message
    assert message.count("extra") == 4


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("[" * 50_000, "not a JSON object"),
        ('"' + "x" * 70_000 + '"', "not a JSON object"),
        ('{"patch_size": ' + "9" * 5000 + "}", "not a JSON object"),
        ('{"model": 5}', "from the config inside: model: expected a section, got 5. Give another one as"),
        ('{"encoder": {"dim": "wide"}}', r"encoder.dim: expected int"),
        ('{"decoder": {"depth": 65536}, "encoder": {"depth": 65536}}', "too few"),
    ],
)
def test_a_bad_config_inside(tmp_path, state, config, reason):
    path = tmp_path / "weights.safetensors"
    save_file(state, path, {"config": config})
    with pytest.raises(CheckpointError, match=reason):
        load_model(path)
    assert not verify_checkpoint(path).ok


@pytest.mark.parametrize(
    ("brought", "reason"),
    [
        ({"carried": '{"roll": [0, 1]}'}, "roll is not a mounting property"),
        ({"carried": '{"pitch": 10}'}, "pitch must be two numbers, the lower one first, got 10"),
        ({"carried": '{"pitch": [20, 0]}'}, "pitch must be two numbers, the lower one first"),
        ({"carried": '{"height": [0, NaN]}'}, "height must be two numbers, the lower one first"),
        ({"carried": '{"forward": [0, 1, 2]}'}, "forward must be two numbers, the lower one first"),
        ({"carried": '{"pitch": [0, 1' + "0" * 400 + "]}"}, "pitch must be two numbers, the lower one first"),
        ({"stream": '{"chunk_size": "abc"}'}, "stream.chunk_size is 'abc'; it must be a whole number"),
        ({"stream": '{"chunk_size": 2, "overlap": 7}'}, "stream.overlap is 7; it must be less than"),
        ({"stream": '{"unit": 1' + "0" * 400 + "}"}, "its recommended stream settings"),
        ({"stream": '{"colour": 1}'}, "stream.colour is not a setting of this version"),
    ],
)
def test_bad_words_on_stream_and_mounting(tmp_path, state, brought, reason):
    path = tmp_path / "weights.safetensors"
    save_file(state, path, {"config": json.dumps(SMALL.to_dict())} | brought)
    assert reason in refusal(path)


def test_damage_anywhere_is_refused_or_harmless(tmp_path, state):
    """Random bytes in the structure of a file: a refusal or tensors that can be read, never anything else."""
    generator = random.Random(0)
    for suffix in ("pt", "safetensors"):
        whole = tmp_path / f"whole.{suffix}"
        torch.save(state, whole) if suffix == "pt" else save_file(state, whole, {"config": "{}"})
        content = whole.read_bytes()
        structure = len(content) if suffix == "pt" else int.from_bytes(content[:8], "little") + 8
        if suffix == "pt":
            with zipfile.ZipFile(whole) as archive:
                entry = next(e for e in archive.infolist() if e.filename.endswith("data.pkl"))
            structure = entry.header_offset + 64 + entry.file_size
        refused = 0
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(generator.choice((1, 1, 4))):
                damaged[generator.randrange(structure)] = generator.randrange(256)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(damaged)
            try:
                tensors = open_checkpoint(path).tensors
                assert (
                    sum(float(tensor.double().abs().sum()) for tensor in tensors.values()) != -1
                )  # all can be read
            except CheckpointError:
                refused += 1
        assert refused > 10


def test_nan_weights_are_found_by_verify_and_refused_by_load(tmp_path, state, capsys):
    broken = {name: tensor.clone() for name, tensor in state.items()}
    broken["decoder.0.mlp.fc1.weight"][3, 2] = float("nan")
    broken["camera_head.fc_t.bias"][0] = float("inf")
    path = tmp_path / "nan.safetensors"
    save_file(broken, path, {"config": json.dumps(SMALL.to_dict())})
    report = verify_checkpoint(path)
    assert not report.ok
    assert set(report.not_finite) == {"decoder.0.mlp.fc1.weight", "camera_head.fc_t.bias"}
    assert verify_checkpoint(path, contents=False).ok
    with pytest.raises(CheckpointError, match="2 tensors are not finite in float32"):
        load_model(path)
    assert main(["weights", "verify", str(path)]) == 1
    assert "2 tensors hold NaN or infinite values" in capsys.readouterr().err


def test_a_good_file_is_described(capsys):
    report = verify_checkpoint(golden_path("weights_b"))
    assert report.ok
    assert (report.kind, report.model, report.dtypes) == ("safetensors", "own", ("float32",))
    assert report.size == golden_path("weights_b").stat().st_size
    assert len(report.sha256) == 64
    assert main(["weights", "verify", str(golden_path("weights_b"))]) == 0
    out = capsys.readouterr().out
    assert report.sha256 in out
    assert f"{report.parameters:,} parameters" in out
