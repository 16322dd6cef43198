"""Checkpoint files, read without running their code, and neither read nor written by way of a second copy.

The tensors of an open checkpoint are windows into the file. They are for reading at once: whoever keeps
them must copy them, since a file that is cut short under its windows ends the process (SIGBUS).
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
_MAX_PICKLE = 64 * 2**20  # bytes of structure beside the tensors; a LoGeR checkpoint has 0.2 MB
_MAX_FOREIGN = 100  # names beside torch's own, of at most so many characters
_MAX_FOREIGN_PICKLE = 4 * 2**20  # bytes of structure in which they are looked for
_MAX_CONFIG = 64 * 2**10  # bytes
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}
_ALLOWING = threading.Lock()  # what torch allows, it allows the whole process
_LIBC = ctypes.CDLL(None) if hasattr(mmap, "MADV_DONTNEED") else None


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what helps."""


class NotLookedAt(CheckpointError):
    """The machine lacks the memory; nothing is known against the file."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    path: Path
    kind: str  # "torch" or "safetensors"
    tensors: dict[str, Tensor]  # windows into the file, named as the model names them
    config: Mapping[str, Any] | None  # of the model, where the file brings it along
    stream: Mapping[str, Any]  # recommended settings of the stream, empty where the file has none
    carried: Mapping[str, Any]  # how robots carried the cameras that it learnt from, likewise

    def copy(self, name: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """A tensor of its own; the memory behind the window is let go, so that the file never fills it."""
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
        raise CheckpointError(f"{path} holds {len(found):,} tensors: it is no checkpoint of ours")
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
    """Names of the tensors with NaN or infinite values; waits once for a GPU, not once per tensor."""
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
    """Writes a safetensors file with its config inside, asking for one tensor at a time.

    ``stream``: the settings of the stream that it is to be run with. ``carried``: how robots carried the
    cameras that it learnt from.

    The library's own writer wants all of them in memory, twice. The file appears when it is complete.
    """
    brought = {"config": config, "stream": stream, "carried": carried}
    metadata = {name: json.dumps(value) for name, value in brought.items() if value or name == "config"}
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    aligned = sorted(shapes, key=lambda name: -shapes[name][0].itemsize)  # wide first: every value lies even
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
    """Unmodified pages of a file: whoever looks again gets them from the file again."""
    begin = -(-window.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (window.data_ptr() + window.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if _LIBC is not None and end > begin and window.is_contiguous():
        _LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _kind(path: Path) -> str:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the checkpoint file in it")
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
        if path.suffix == ".safetensors":  # newer torch goes by the name
            raise CheckpointError(f"{path} is a torch file: give it a name that ends in .pt")
        return "torch"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the weights: run 'git lfs pull' where it was cloned"
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path} is a web page, not weights: the download got an error or a log-in page. "
            f"Use the direct link of the file, or 'loger weights fetch'"
        )
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in head:
        raise CheckpointError(
            f"{path} is the index of weights that lie in several files: join them with load_file and "
            f"save_file of safetensors.torch, and name that file"
        )
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        raise CheckpointError(
            f"{path} is a bare pickle, torch's file format before version 1.6, which cannot be mapped: "
            f"load it once with torch.load(path, weights_only=True) and save that again with torch.save"
        )
    raise CheckpointError(f"{path} is neither a torch checkpoint nor a safetensors file")


# ---- torch -----------------------------------------------------------------------------------------


class _LeftOut:
    """Stands where a file has something that is not torch's own, such as settings of its training.

    It swallows what that is made of. Whatever the name in the file means is neither imported nor called.
    """

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _leaving_out(path: Path, structure: int) -> AbstractContextManager[Any]:
    """In it torch's weights-only loader takes what is not torch's own for such classes, one per name.

    structure: bytes of it. Where that or the names are beyond all measure, what they name is refused.
    """
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch before 2.6 refuses it
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
            raise NotLookedAt(f"{path}: there is not enough memory to look at it") from error
        cure = (
            "If you trust where it comes from, save its tensors alone: "
            f"torch.save({{'{_WRAPPER}': state_dict}}, path)"
        )
        called = re.search(r"GLOBAL ([\w.]+)", str(error))
        if called:
            raise CheckpointError(
                f"{path} wants {called[1]} to run or to be built while it is read. Weights never need that: "
                f"nothing was run and the file is refused. {cure}"
            ) from None
        # Behind torch's advice to run anything; before, it said what Python says.
        refused = re.search(
            r"WeightsUnpickler error:\s*(.+)|(.+does not support item assignment)", str(error)
        )
        if refused:
            raise CheckpointError(
                f"{path} holds more than tensors, or is damaged: {refused[1] or refused[2]}. {cure}"
            ) from None
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of tensors: {first_line(error)}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get(_WRAPPER), dict):
        content = content[_WRAPPER]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} holds {_first(map(str, content))}, but neither tensors nor {_WRAPPER!r}: save the "
            f"model's state_dict() alone"
        )
    return content


def _check_archive(path: Path) -> int:
    """What torch does not check: that the archive is whole, plain and no bomb; → bytes of its structure."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged ({path.stat().st_size:,} bytes are there): fetch it again"
        ) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed archive; checkpoints that torch saves are not")
    structure = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(structure) != 1 or structure[0].file_size > _MAX_PICKLE:
        raise CheckpointError(f"{path} is a zip archive, but not one that torch.save has written")
    return structure[0].file_size


# ---- safetensors -----------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    try:
        with safe_open(str(path), "pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is cut short, damaged or no safetensors file ({path.stat().st_size:,} bytes are there): "
            f"{first_line(error)}"
        ) from error
    return tensors, metadata


def _embedded(path: Path, name: str, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        values = json.loads(text) if len(text) <= _MAX_CONFIG else None
    except (ValueError, RecursionError):  # no JSON, or whole numbers of thousands of digits
        values = None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{path} brings a {name!r} in its metadata that is no JSON object of settings")
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
