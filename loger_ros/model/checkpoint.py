"""Checkpoint files: read without running code from them; read and written without a second copy in memory.

The tensors of an open checkpoint are windows into the file, meant to be read at once. To keep a tensor,
copy it: if the file is truncated while windows into it are in use, the process ends (SIGBUS).
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loger_ros.failures import first_line
from loger_ros.files import appearing_whole

_WRAPPER = "model_state_dict"
_PREFIX = "module."  # left by torch's data-parallel wrappers
_DEAD = ".to_qkv_stack."  # published with every LoGeR checkpoint, used by no computation
_MAX_TENSORS = 100_000
_MAX_PICKLE = 64 * 2**20  # bytes of structure besides the tensors; a LoGeR checkpoint has 0.2 MB
_MAX_FOREIGN = 100  # most names that are not torch's own, and most characters of each
_MAX_FOREIGN_PICKLE = 4 * 2**20  # most bytes of structure that are searched for them
_MAX_CONFIG = 64 * 2**10  # bytes
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}
_ALLOWING = threading.Lock()  # what torch allows, it allows for the whole process
_LIBC = ctypes.CDLL(None) if hasattr(mmap, "MADV_DONTNEED") else None


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what helps."""


class NotRead(CheckpointError):
    """The machine lacks the memory to read the file; the file itself may be good."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    path: Path
    kind: str  # "torch" or "safetensors"
    tensors: dict[str, Tensor]  # windows into the file, named as the model names them
    config: Mapping[str, Any] | None  # of the model, if the file contains it
    stream: Mapping[str, Any]  # recommended stream settings; empty if the file has none
    carried: Mapping[str, Any]  # how robots carried the cameras of its training; likewise

    def copy(self, name: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """Return a copy of a tensor, and release its window so that the file never fills the memory."""
        window = self.tensors[name]
        copied = window.to(device, dtype, copy=True, memory_format=torch.contiguous_format)
        _release(window)
        return copied


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a ``.pt`` or ``.safetensors`` file; its content decides which it is."""
    path = Path(os.path.expanduser(path))
    kind = _kind(path)
    config, stream, carried = None, None, None
    if kind == "torch":
        found = _read_torch(path)
    else:
        found, metadata = _read_safetensors(path)
        config, stream, carried = (
            _embedded(path, name, metadata.get(name)) for name in ("config", "stream", "carried")
        )
    if len(found) > _MAX_TENSORS:
        raise CheckpointError(f"{path} holds {len(found):,} tensors: that is too many for a checkpoint")
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {name!r:.80}, a {type(value).__name__}, among its tensors")
        short = name.removeprefix(_PREFIX)
        if _DEAD in short:
            continue
        if short in tensors:
            raise CheckpointError(f"{path} holds {short} twice, with and without the prefix {_PREFIX!r}")
        tensors[short] = _plain(path, name, value)
    if sum(tensor.nbytes for tensor in tensors.values()) > path.stat().st_size:
        raise CheckpointError(f"{path} declares tensors larger than the file itself: it is damaged or forged")
    return Checkpoint(path, kind, tensors, config, stream or {}, carried or {})


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with NaN or infinite values; wait for a GPU once, not once per tensor."""
    filled = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    if not filled:
        return []
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)).double() for tensor in filled.values()])
    return [
        name for name, finite in zip(filled, extremes.isfinite().all(1).tolist(), strict=True) if not finite
    ]


def save_checkpoint(
    path: str | Path,
    shapes: Mapping[str, tuple[torch.dtype, torch.Size]],
    config: Mapping[str, Any],
    tensor: Callable[[str], Tensor],
    stream: Mapping[str, Any] | None = None,
    carried: Mapping[str, Any] | None = None,
) -> None:
    """Write a safetensors file with its config inside, requesting one tensor at a time.

    ``stream``: the stream settings to run the model with. ``carried``: how robots carried the cameras that
    it was trained with.

    The library's own writer needs all tensors in memory, twice. The file appears when it is complete.
    """
    brought = {"config": config, "stream": stream, "carried": carried}
    metadata = {name: json.dumps(value) for name, value in brought.items() if value or name == "config"}
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    aligned = sorted(shapes, key=lambda name: -shapes[name][0].itemsize)  # widest first, for alignment
    for name in aligned:
        dtype, shape = shapes[name]
        end = position + shape.numel() * dtype.itemsize
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with appearing_whole(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in aligned:
            dtype, shape = shapes[name]
            value = tensor(name)
            if value.dtype != dtype or value.shape != shape:
                got = f"{value.dtype} {tuple(value.shape)}"
                raise ValueError(f"{name}: announced as {dtype} {tuple(shape)}, got {got}")
            file.write(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _release(window: Tensor) -> None:
    """Release the pages of a window. They are unmodified, so a later read gets them from the file again."""
    begin = -(-window.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (window.data_ptr() + window.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if _LIBC is not None and end > begin and window.is_contiguous():
        _LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _kind(path: Path) -> str:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give the path of the checkpoint file in it")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path} is empty: fetch it again")
    if head.startswith(b"PK\x03\x04"):
        if path.suffix == ".safetensors":  # newer versions of torch go by the name
            raise CheckpointError(f"{path} is a torch file: give it a name that ends in .pt")
        return "torch"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the weights: run 'git lfs pull' in its repository"
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path} is a web page, not weights: the download returned an error page or a login page. "
            f"Use the direct link to the file, or 'loger weights fetch'"
        )
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in head:
        raise CheckpointError(
            f"{path} is the index of weights that are split into several files: join them with load_file "
            f"and save_file of safetensors.torch, and give the path of the joined file"
        )
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        raise CheckpointError(
            f"{path} is a bare pickle, torch's file format before version 1.6, which cannot be mapped "
            f"into memory: load it once with torch.load(path, weights_only=True) and save the result with "
            f"torch.save"
        )
    raise CheckpointError(f"{path} is neither a torch checkpoint nor a safetensors file")


# ---- torch -----------------------------------------------------------------------------------------


class _LeftOut:
    """Stands in for anything in a file that is not torch's own, such as training settings.

    It accepts and ignores all arguments. Whatever the name in the file refers to is neither imported nor
    called.
    """

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _leaving_out(path: Path, structure: int) -> AbstractContextManager[Any]:
    """Return a context in which torch's weights-only loader replaces what is not torch's own by ``_LeftOut``.

    structure: its size in bytes. If it is too large, or the names are too many or odd, the loader refuses
    them instead.
    """
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch before 2.6 refuses them
        return nullcontext()
    if structure > _MAX_FOREIGN_PICKLE:
        return nullcontext()
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    if len(names) > _MAX_FOREIGN or any(len(n) > _MAX_FOREIGN or not n.isprintable() for n in names):
        return nullcontext()
    return torch.serialization.safe_globals(
        [
            type(name, (_LeftOut,), {"__module__": module})
            for module, _, name in (full.rpartition(".") for full in names)
        ]
    )


def _read_torch(path: Path) -> dict[str, Any]:
    structure = _check_archive(path)
    try:
        with _ALLOWING, _leaving_out(path, structure):
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what unpickling a damaged or hostile file raises has no bounds
        if isinstance(error, MemoryError) or "annot allocate memory" in str(error):
            raise NotRead(f"{path}: there is not enough memory to read it") from error
        cure = (
            f"If you trust its source, save only its tensors: torch.save({{'{_WRAPPER}': state_dict}}, path)"
        )
        called = re.search(r"GLOBAL ([\w.]+)", str(error))
        if called:
            raise CheckpointError(
                f"{path} asks to run or build {called[1]} while it is read. Weights never need that: the "
                f"file is refused and nothing was run. {cure}"
            ) from None
        # The reason follows torch's advice to run anything; older versions pass on Python's own message.
        refused = re.search(
            r"WeightsUnpickler error:\s*(.+)|(.+does not support item assignment)", str(error)
        )
        if refused:
            raise CheckpointError(
                f"{path} holds more than tensors, or is damaged: {refused[1] or refused[2]}. {cure}"
            ) from None
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint of tensors: {first_line(error)}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get(_WRAPPER), dict):
        content = content[_WRAPPER]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} holds {_first(map(str, content))}, but neither tensors nor {_WRAPPER!r}: save only "
            f"the model's state_dict()"
        )
    return content


def _check_archive(path: Path) -> int:
    """Check what torch does not: that the archive is complete, uncompressed and no zip bomb.

    Return the size of its structure in bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged (it has {path.stat().st_size:,} bytes): fetch it again"
        ) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed archive; checkpoints that torch saves are not")
    structure = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(structure) != 1 or structure[0].file_size > _MAX_PICKLE:
        raise CheckpointError(f"{path} is a zip archive, but torch.save did not write it")
    return structure[0].file_size


# ---- safetensors -----------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    try:
        with safe_open(str(path), "pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is cut short, damaged or not a safetensors file "
            f"(it has {path.stat().st_size:,} bytes): {first_line(error)}"
        ) from error
    return tensors, metadata


def _embedded(path: Path, name: str, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        values = json.loads(text) if len(text) <= _MAX_CONFIG else None
    except (ValueError, RecursionError):  # not JSON, or whole numbers with thousands of digits
        values = None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{path}: {name!r} in its metadata is not a JSON object of settings")
    return values


# ---- both ------------------------------------------------------------------------------------------


def _plain(path: Path, name: str, value: Tensor) -> Tensor:
    if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in _SAFETENSORS_DTYPES:
        kind = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{path}: {name:.80} is {kind}; weights are dense float64, float32, bfloat16 or float16"
        )
    return value.detach()


def _first(names: Iterator[str], count: int = 3) -> str:
    shown = [f"{name:.60}" for name in names]
    return ", ".join(shown[:count]) + (", …" if len(shown) > count else "")
