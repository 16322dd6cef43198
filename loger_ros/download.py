"""Downloads one large file: resumed after a break, limited in size, verified, in place only when complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from loger_ros.files import locked, sha256_of

_BLOCK = 2**20  # bytes
_SPARE = 256 * 2**20  # bytes of disk that stay free
_ATTEMPTS = 5  # in a row without progress
_TIMEOUT = 30.0  # seconds without an answer

Progress = Callable[[int, "int | None"], None]  # bytes so far, bytes in total if known


class DownloadError(RuntimeError):
    """Says what went wrong and what to do about it."""


class _Interrupted(Exception):
    """The connection broke; it is worth asking for the rest."""


@dataclass(frozen=True)
class Request:
    url: str
    target: Path
    max_bytes: int
    sha256: str | None = None  # None: the one that the server announces is compared, if any
    # Called with the complete file; raises DownloadError if it is not what was wanted.
    check: Callable[[Path], None] = lambda part: None
    progress: Progress = lambda done, total: None
    notify: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class _Remote:
    """What the server says about the file."""

    size: int | None
    sha256: str | None
    version: str  # changes with the file; empty if the server does not say


def download(request: Request, wait: Callable[[float], None] = time.sleep) -> str:
    """Return the SHA-256 of what is now at ``request.target``. What has arrived survives an interruption."""
    _require_safe(request.url)
    request.target.parent.mkdir(parents=True, exist_ok=True)
    failures, arrived = 0, -1
    while True:
        try:
            return _attempt(request)
        except _Interrupted as interruption:
            before, arrived = arrived, sum(part.stat().st_size for part in _parts(request.target))
            failures = 0 if arrived > before else failures + 1
            if failures == _ATTEMPTS:
                raise DownloadError(
                    f"{request.url}: {interruption}; {failures} attempts brought no more data. {arrived:,} "
                    f"bytes have arrived and are kept: run the same command again to continue from there"
                ) from interruption
            pause = 2.0**failures
            request.notify(f"{interruption}; trying again in {pause:.0f} s")
            wait(pause)


def _attempt(request: Request) -> str:
    response, remote = _ask(request.url)
    with contextlib.closing(response):
        expected = request.sha256 or remote.sha256
        _require_room(request, remote)
        with _part(request.target, f"{request.url} {expected or remote.version}") as (part, file):
            have = file.seek(0, os.SEEK_END)
            if not (expected or remote.version) or have > (remote.size or request.max_bytes):
                have = 0  # nothing shows that what is here is the beginning of the same file
            if have and have != remote.size:
                response.close()
                response, remote, have = _go_on(request.url, remote, have)
            file.truncate(have)
            file.seek(have)
            if have != remote.size:
                with contextlib.closing(response):
                    _receive(response, file, have, remote.size, request)
            return _accept(part, file, expected, request)


def _go_on(url: str, remote: _Remote, have: int) -> tuple[Any, _Remote, int]:
    """Ask for what is missing after ``have`` bytes, or for everything if those bytes are of no use."""
    response, later = _ask(url, have)
    if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        response.close()
        if later.size == have:
            return response, replace(remote, size=have), have
        response, later = _ask(url)
    if (later.sha256, later.version) != (remote.sha256, remote.version):
        response.close()
        raise _Interrupted("the file changed on the server")
    return response, later, have if response.status == http.client.PARTIAL_CONTENT else 0


def _receive(response: Any, file: BinaryIO, have: int, size: int | None, request: Request) -> None:
    while size is None or have < size:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(f"the connection broke ({type(error).__name__})") from error
        if not block:
            break
        have += len(block)
        if have > request.max_bytes:
            raise DownloadError(f"{request.url} is larger than the {request.max_bytes:,} bytes expected")
        try:
            file.write(block)
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise DownloadError(f"{request.target.parent}: {reason}. Make room and try again") from error
        request.progress(have, size)
    file.flush()
    if size is not None and have < size:
        raise _Interrupted(f"the connection ended after {have:,} of {size:,} bytes")


def _accept(part: Path, file: BinaryIO, expected: str | None, request: Request) -> str:
    digest = sha256_of(part)
    try:
        if expected and digest != expected.lower():
            raise DownloadError(
                f"{request.url}: its SHA-256 is {digest} instead of {expected}. The download was removed. If "
                f"another attempt has the same result, this is not the intended file"
            )
        request.check(part)
    except DownloadError:
        part.unlink()
        raise
    os.fsync(file.fileno())  # otherwise a power cut may leave the name without its bytes
    os.replace(part, request.target)
    return digest


# ---- the file that grows ---------------------------------------------------------------------------


@contextlib.contextmanager
def _part(target: Path, identity: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the incomplete file; it is named after its source, so that two versions are never mixed."""
    version = hashlib.sha256(identity.encode()).hexdigest()[:12]
    part = target.with_name(f"{target.name}.{version}.part")
    for stale in set(_parts(target)) - {part}:
        stale.unlink(missing_ok=True)
    try:
        descriptor = locked(part)
    except BlockingIOError as error:
        raise DownloadError(f"{part} is being written by another download: wait for it to finish") from error
    with os.fdopen(descriptor, "r+b") as file:
        yield part, file


def _parts(target: Path) -> list[Path]:
    return list(target.parent.glob(f"{target.name}.*.part"))


def _require_room(request: Request, remote: _Remote) -> None:
    if remote.size is None:
        return
    if remote.size > request.max_bytes:
        raise DownloadError(
            f"{request.url} has {remote.size:,} bytes, but at most {request.max_bytes:,} were expected"
        )
    folder = request.target.parent
    free = shutil.disk_usage(folder).free + sum(part.stat().st_size for part in _parts(request.target))
    if free < remote.size + _SPARE:
        raise DownloadError(
            f"{folder} has room for {free / 1e9:.1f} GB, but {(remote.size + _SPARE) / 1e9:.1f} are needed: "
            f"make room or choose another folder"
        )


# ---- the server ------------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to an unsafe place; model hubs describe the file in these answers."""

    def __init__(self) -> None:
        self.headers: list[Any] = []

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _require_safe(newurl)
        self.headers.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask(url: str, start: int = 0) -> tuple[Any, _Remote]:
    headers = {"User-Agent": "loger_ros", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error, _described(error, start, redirects.headers)
        if error.code == 429 or error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, (socket.gaierror, ssl.SSLCertVerificationError)):
            raise DownloadError(f"{url} cannot be reached: {error.reason}") from error
        raise _Interrupted(f"the server cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke ({type(error).__name__})") from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise DownloadError(f"{url} answers with a web page instead of a file: is the link right and public?")
    return response, _described(response, start, redirects.headers)


def _described(response: Any, start: int, on_the_way: list[Any]) -> _Remote:
    size = response.headers.get("Content-Length")
    if response.status == http.client.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != start:
            response.close()
            raise DownloadError(f"{response.url}: the server sent a different range than it was asked for")
        size = match[2]
    elif response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        size = match[1] if match else None
    linked = next((h["X-Linked-Etag"] for h in [*on_the_way, response.headers] if h["X-Linked-Etag"]), "")
    sha256 = re.fullmatch(r'"?([0-9a-f]{64})"?', linked)
    version = linked or response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return _Remote(int(size) if size and size.isdigit() else None, sha256[1] if sha256 else None, version)


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    ):
        return
    raise DownloadError(f"{url}: only https links are followed")
