"""Files that appear whole or not at all, locks that keep other processes out, and digests."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished-"
JUST_MADE = 10.0  # s: a file younger than this may not be locked yet

# Read while nothing else runs, since reading it changes it for a moment for the whole process.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextlib.contextmanager
def appearing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, which gets its name if the block succeeds, and leaves nothing behind otherwise.

    What a killed process left of an earlier one is removed, too.
    """
    if path.exists() and not path.is_file():  # root could replace /dev/null with a file
        raise FileExistsError(f"{path} exists and is not a regular file: choose another name")
    _remove_unfinished(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{UNFINISHED}")
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed: it is being written
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, 0o666 & ~_UMASK)  # mkstemp makes files that only their owner can read
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def appearing_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to make and fill, which gets its name if the block succeeds, and is removed otherwise.

    An empty folder that already exists stays what it is, such as a link or a mount, and gets the content.
    """
    path = path.resolve()  # so that "." has a name, too
    refuse_filled(path)
    there = path.exists()
    home = path if there else path.parent
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=f".{path.name}.") as place:
        made = Path(place) / path.name
        yield made
        if not there:
            os.replace(made, path)
            return
        for part in made.iterdir():
            os.replace(part, path / part.name)


def refuse_filled(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: choose another name")
    for inside in folder.iterdir():  # one may be hidden, such as what a killed command left
        raise ValueError(
            f"{folder} is not empty (it holds {inside.name}): choose a new folder, or remove what is in it"
        )


def _remove_unfinished(path: Path) -> None:
    """Remove what nobody writes any more. If the file system has no locks, everything stays."""
    for left in path.parent.glob(f".{glob.escape(path.name)}{UNFINISHED}{'?' * 8}"):  # as mkstemp names them
        with contextlib.suppress(OSError):
            # Opened for writing, since NFS cannot lock it otherwise.
            descriptor = os.open(left, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(descriptor).st_mtime > JUST_MADE:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
            finally:
                os.close(descriptor)


def locked(path: Path) -> int:
    """Return a descriptor that locks the file for its owner until it is closed or the process ends.

    Raises BlockingIOError if somebody else holds it. If the file system has no locks, nobody is kept out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Some file systems give a file another number each time: the third descriptor is accepted as it is.
    for last in (False, False, True):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            pass
        with contextlib.suppress(FileNotFoundError):
            if last or os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # its owner has just renamed or removed it
    return descriptor


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
