"""``loger weights``: ``fetch``, against servers on this machine that misbehave, ``convert`` and ``mean``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from networks import SMALL, small_images, small_model
from safetensors.torch import save_file

from loger_ros import download as download_module
from loger_ros.cli import bench_weights, main
from loger_ros.download import DownloadError, Request, download
from loger_ros.model import PRESETS, load_model, verify_checkpoint
from loger_ros.model.carried import Carried
from loger_ros.training.trainer import write_checkpoint

CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), 3_000_000))


class Server(ThreadingHTTPServer):
    """Serves one file; tests set what goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.linked = False  # announce the SHA-256 on a redirect, as model hubs do
        self.ranges = True
        self.cut_after: list[int] = []  # bytes sent per answer before the connection ends
        self.errors: list[int] = []  # status of the next answers
        self.content_type = "application/octet-stream"
        self.say_length = True
        self.say_size = True  # where there is nothing after what is asked for
        self.redirect_to: str | None = None
        self.asked: list[str | None] = []  # Range of every request for the file

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model/latest.pt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        if self.path.startswith("/model") and (server.linked or server.redirect_to):
            self.send_response(302)
            self.send_header("Location", server.redirect_to or "/blob")
            if server.linked:
                self.send_header("X-Linked-Etag", f'"{hashlib.sha256(server.content).hexdigest()}"')
            self.send_header("Content-Length", "0")
            return self.end_headers()
        server.asked.append(self.headers["Range"])
        if server.errors:
            return self.send_error(server.errors.pop(0))
        start = 0
        if self.headers["Range"] and server.ranges:
            start, size = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]), len(server.content)
            self.send_response(206 if start < size else 416)
            said = f"bytes {start}-{size - 1}/{size}" if start < size else f"bytes */{size}"
            self.send_header("Content-Range", said if start < size or server.say_size else "bytes */*")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.say_length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.content_type)
        if server.cut_after:  # taken before the client has its headers and may ask again
            body = body[: server.cut_after.pop(0)]
        self.end_headers()
        with contextlib.suppress(OSError):  # the client had heard enough
            self.wfile.write(body)
        return None

    def log_message(self, *_args):
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, target, **options) -> str:
    return download(Request(server.url, target, **{"max_bytes": 10**8, **options}), wait=lambda seconds: None)


def leftovers(target) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_plain_download(server, tmp_path):
    target, seen = tmp_path / "new" / "x.pt", []
    digest = fetch(server, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(target) == []


def test_the_bytes_are_on_the_disk_before_the_name(server, tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, n=name, f=function: (done.append(n), f(*given)))
    fetch(server, tmp_path / "x.pt")
    assert done == ["fsync", "replace"]


def test_cut_connections_are_resumed_where_they_ended(server, tmp_path):
    server.cut_after, said = [1_000_000, 0, 500_000], []  # every second answer is only asked for its headers
    fetch(server, tmp_path / "x.pt", notify=said.append)
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert [asked for asked in server.asked if asked][-1] == "bytes=1500000-"
    assert "ended after 1,000,000 of 3,000,000 bytes" in said[0]


def test_a_download_goes_on_in_another_run(server, tmp_path):
    server.cut_after = [2_000_000] + [0] * 50
    with pytest.raises(DownloadError, match="2,000,000 bytes have arrived and are kept"):
        fetch(server, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()
    server.cut_after, server.asked = [], []
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-"]


@pytest.mark.parametrize(
    ("say_size", "too_much", "asked"), [(True, b"", 2), (False, b"", 3), (True, b"more", 3)]
)
def test_a_complete_part_is_taken_if_the_server_says_so(server, tmp_path, say_size, too_much, asked):
    def killed(_part):
        raise KeyboardInterrupt

    server.say_length = False
    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path / "x.pt", check=killed)
    (part,) = tmp_path.iterdir()
    part.write_bytes(CONTENT + too_much)
    server.say_size, server.asked = say_size, []
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert len(server.asked) == asked


@pytest.mark.parametrize(("error", "stays"), [(DownloadError("another"), 0), (MemoryError(), 1)])
def test_only_what_is_not_wanted_is_removed(server, tmp_path, error, stays):
    def check(_part):
        raise error

    with pytest.raises(type(error)):
        fetch(server, tmp_path / "x.pt", check=check)
    assert len(list(tmp_path.iterdir())) == stays


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.cut_after, server.ranges = [1_000_000, 3_000_000], False
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_parts_of_two_versions_are_never_mixed(server, tmp_path, etag):
    server.etag, server.cut_after = etag, [2_000_000] + [0] * 50
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "x.pt")
    server.content, server.cut_after = CONTENT[::-1], []
    server.etag = etag and '"v2"'
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT[::-1]
    assert leftovers(tmp_path / "x.pt") == []


def test_the_digest_of_the_hub_is_compared_without_being_asked(server, tmp_path):
    server.linked = True
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("linked", [False, True])
def test_another_digest_is_refused_and_nothing_stays(server, tmp_path, linked):
    server.linked = linked
    with pytest.raises(DownloadError, match=r"SHA-256 is [0-9a-f]{64} instead of 0000"):
        fetch(server, tmp_path / "x.pt", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_is_found_by_the_digest_of_the_hub(server, tmp_path):
    server.linked, server.cut_after = True, [1_000_000] + [0] * 50
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "x.pt")
    (part,) = tmp_path.iterdir()
    part.write_bytes(b"\0" * 1_000_000)
    server.cut_after = []
    with pytest.raises(DownloadError, match="instead of"):
        fetch(server, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_is_refused_before_it_is_stored(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        fetch(server, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_server(server, tmp_path):
    server.errors = [404]
    with pytest.raises(DownloadError, match="404 Not Found"):
        fetch(server, tmp_path / "x.pt")
    server.errors = [503, 429]  # pass
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_no_server_and_no_such_name(tmp_path, monkeypatch):
    options = {"max_bytes": 10**8}
    with pytest.raises(DownloadError, match=r"cannot be reached.*brought no more data"):
        download(Request("http://127.0.0.1:9/x", tmp_path / "x", **options), wait=lambda seconds: None)

    def unknown(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(Request("https://nowhere.invalid/x", tmp_path / "x", **options), wait=lambda seconds: None)


@pytest.mark.parametrize("say_length", [True, False])
def test_size_is_bounded(server, tmp_path, say_length):
    server.say_length = say_length
    with pytest.raises(DownloadError, match="2,000,000"):
        fetch(server, tmp_path / "x.pt", max_bytes=2_000_000)
    assert not (tmp_path / "x.pt").exists()


def test_room_on_the_disk_is_checked_first(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "_SPARE", 10**18)
    with pytest.raises(DownloadError, match="make room or choose another folder"):
        fetch(server, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_only_safe_links(server, tmp_path):
    for url in ("http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"):
        with pytest.raises(DownloadError, match="only https links"):
            download(Request(url, tmp_path / "x", max_bytes=1))
    for server.redirect_to in ("http://example.org/x", "file:///etc/passwd"):
        with pytest.raises(DownloadError):
            fetch(server, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_of_one_file_do_not_meet(server, tmp_path):
    def second(done, total):
        with pytest.raises(DownloadError, match="another download"):
            fetch(server, tmp_path / "x.pt")

    fetch(server, tmp_path / "x.pt", progress=second)
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_a_file_system_without_locks_takes_downloads(server, tmp_path, monkeypatch):
    def no_locks(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    fetch(server, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


# ---- the commands ----------------------------------------------------------------------------------


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """A small network under the published name, on the server."""
    monkeypatch.setitem(PRESETS, "loger_star", SMALL)
    monkeypatch.setenv("LOGER_CHECKPOINTS", str(tmp_path / "home"))
    model = small_model()
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "source.pt")
    server.content = (tmp_path / "source.pt").read_bytes()
    return model


def test_fetch_then_load_by_name(server, published, tmp_path, capsys):
    assert main(["weights", "fetch", "loger_star", "--url", server.url]) == 0
    out, err = capsys.readouterr()
    assert hashlib.sha256(server.content).hexdigest() in out
    assert "100 %" in err
    assert load_model("loger_star").config == SMALL
    asked = len(server.asked)
    assert main(["weights", "fetch", "loger_star", "--url", server.url]) == 0
    assert "is there already" in capsys.readouterr().out
    assert len(server.asked) == asked


def test_fetch_looks_at_a_file_that_is_there_already(server, published, tmp_path, monkeypatch, capsys):
    target = tmp_path / "home" / "loger_star.pt"
    fetch_again = ["weights", "fetch", "loger_star", "--url", server.url]
    assert main(fetch_again) == 0
    assert main([*fetch_again, "--sha256", hashlib.sha256(server.content).hexdigest()]) == 0
    capsys.readouterr()
    assert main([*fetch_again, "--sha256", "0" * 64]) == 1
    assert re.search(r"SHA-256 is \w{64} instead of 0+; removing it allows", capsys.readouterr().err)
    monkeypatch.setitem(PRESETS, "loger_star", small_model(ttt_pre_norm=True).config)
    monkeypatch.setitem(PRESETS, "loger", SMALL)
    assert main(fetch_again) == 1
    assert f"{target} is LoGeR, " in capsys.readouterr().err
    os.truncate(target, 1000)
    assert main(fetch_again) == 1
    assert "cut short" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    ["home/LoGeR_star/latest.pt", "home/loger_star.safetensors", "cache/loger_ros/checkpoints/loger_star.pt"],
)
def test_fetch_brings_nothing_that_the_name_finds_already(
    server, published, tmp_path, monkeypatch, capsys, place
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    there = tmp_path / place
    there.parent.mkdir(parents=True)
    (torch.save if there.suffix == ".pt" else save_file)(published.state_dict(), there)
    assert main(["weights", "fetch", "loger_star", "--url", server.url]) == 0
    assert f"{there} is there already" in capsys.readouterr().out
    assert server.asked == []
    to = tmp_path / "to"
    assert main(["weights", "fetch", "loger_star", "--url", server.url, "--to", str(to)]) == 0
    assert (to / "loger_star.pt").exists()


@pytest.mark.parametrize(
    ("content", "reason"), [(b"<html>log in</html>", "web page"), (CONTENT, "neither a torch checkpoint")]
)
def test_fetch_keeps_nothing_that_is_no_checkpoint(server, published, tmp_path, capsys, content, reason):
    server.content = content
    assert main(["weights", "fetch", "loger_star", "--url", server.url, "--to", str(tmp_path / "to")]) == 1
    assert reason in capsys.readouterr().err
    assert list((tmp_path / "to").iterdir()) == []


def test_fetch_keeps_what_there_was_no_memory_to_look_at(server, published, tmp_path, capsys, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("unable to mmap 5018000000 bytes from file <x>: Cannot allocate memory (12)")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", full)
        assert main(["weights", "fetch", "loger_star", "--url", server.url]) == 1
        assert "not enough memory to read it" in capsys.readouterr().err
    (part,) = (path for path in (tmp_path / "home").rglob("*.part"))
    assert part.stat().st_size == len(server.content)
    assert main(["weights", "fetch", "loger_star", "--url", server.url]) == 0


def test_fetch_refuses_the_other_model(server, published, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(PRESETS, "loger", small_model(ttt_pre_norm=True).config)
    assert main(["weights", "fetch", "loger", "--url", server.url]) == 1
    assert "is LoGeR*" in capsys.readouterr().err
    assert list((tmp_path / "home").iterdir()) == []


def test_fetch_says_which_digest_is_malformed(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "fetch", "loger", "--sha256", "abc"])
    assert "64 hexadecimal digits" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_convert(published, tmp_path, capsys, dtype):
    target = tmp_path / "small.safetensors"
    assert main(["weights", "convert", str(tmp_path / "source.pt"), str(target), "--dtype", dtype]) == 0
    report = verify_checkpoint(target)
    assert report.ok
    assert report.model == "loger_star"
    assert set(report.dtypes) == {dtype, "float32"}
    assert oct(target.stat().st_mode & 0o444) == oct(0o444 & ~_umask())
    direct = load_model(tmp_path / "source.pt", dtype=dtype)
    converted = load_model(target, dtype=dtype)
    for name, tensor in direct.state_dict().items():
        assert torch.equal(converted.state_dict()[name], tensor), name
    images = small_images(2)
    a, _ = direct.step(images, direct.initial_memory(), 4, 1)
    b, _ = converted.step(images, converted.initial_memory(), 4, 1)
    assert torch.equal(a.local_points, b.local_points)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_mean(tmp_path, capsys):
    """Of models of the same sizes; others are refused."""
    models = {name: small_model(seed) for seed, name in enumerate("ab")} | {"c": small_model(patch_size=8)}
    for name, model in models.items():
        write_checkpoint(model, tmp_path / f"{name}.safetensors", {"chunk_size": 5}, {"pitch": [0, 20]})
    a, b, c, out = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "c", "out"))
    assert main(["weights", "mean", a, b, "--out", out]) == 0
    made = load_model(out)
    assert made.recommended == {"chunk_size": 5}
    assert made.carried == Carried(pitch=(0, 20))
    assert main(["weights", "convert", out, str(tmp_path / "half.safetensors"), "--dtype", "float16"]) == 0
    assert load_model(tmp_path / "half.safetensors").carried == made.carried
    for name, tensor in made.state_dict().items():
        one, other = (models[which].state_dict()[name] for which in "ab")
        assert torch.allclose(tensor, (one + other) / 2, atol=1e-7), name
    assert main(["weights", "mean", a, b, "--out", out]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["weights", "mean", a, c, "--out", str(tmp_path / "no.safetensors")]) == 1
    assert "of other sizes than" in capsys.readouterr().err


def test_convert_and_mean_take_the_names_that_verify_takes(tmp_path):
    half, mean = (str(tmp_path / f"{name}.safetensors") for name in ("half", "mean"))
    assert main(["weights", "convert", "tiny", half, "--dtype", "float16"]) == 0
    assert main(["weights", "mean", "tiny", half, "--out", mean]) == 0
    assert load_model(mean).recommended == load_model("tiny").recommended


def test_infinite_values_are_not_written(tmp_path, capsys):
    large = small_model()
    with torch.no_grad():
        large.decoder[1].mlp.fc1.weight[0, 0] = 3e38
    source, out = str(tmp_path / "large.safetensors"), tmp_path / "out.safetensors"
    write_checkpoint(large, tmp_path / "large.safetensors", {})
    for command, cure in (
        (["convert", source, str(out), "--dtype", "float16"], "float16 ends at 65504: choose bfloat16"),
        (["mean", source, source, "--out", str(out)], "says which of the files is broken"),
    ):
        assert main(["weights", *command]) == 1
        said = capsys.readouterr().err
        assert "decoder.1.mlp.fc1.weight would not be finite in float" in said
        assert cure in said
        assert not out.exists()
    assert main(["weights", "convert", source, str(out), "--dtype", "bfloat16"]) == 0


def test_convert_never_overwrites_and_leaves_nothing_half_done(published, tmp_path, capsys, monkeypatch):
    source, target = str(tmp_path / "source.pt"), tmp_path / "small.safetensors"
    assert main(["weights", "convert", source, str(tmp_path / "x.pt")]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err
    target.write_text("precious")
    assert main(["weights", "convert", source, str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main(["weights", "convert", source, str(tmp_path / "none" / "x.safetensors")]) == 1
    assert "none" in capsys.readouterr().err
    target.unlink()

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    assert main(["weights", "convert", source, str(target)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.pt"]


def test_the_benchmark_measures_what_it_says(published, tmp_path):
    """Its parts, on a small network; the whole runs them in processes of their own."""
    wrapped, converted = tmp_path / "latest.pt", tmp_path / "half.safetensors"
    bench_weights._write_published("loger_star", wrapped)
    assert bench_weights._convert(wrapped, converted, "bfloat16").seconds > 0
    loaded = bench_weights._load("loger_star", converted, "bfloat16")
    model = load_model(converted, dtype="bfloat16")
    assert loaded.weights == sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e9
    assert loaded.load.anonymous < loaded.load.resident
