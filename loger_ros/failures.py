"""What an error of the network means to who operates it, in one line with the cure.

torch has a type for little of it, and that moved between versions: the message has to tell.
"""

from __future__ import annotations

import torch

# Of a CPU, of CUDA itself, and of its libraries.
FULL = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
UNBUILT = "no kernel image is available"
LOST = ("CUDA error", "cuDNN error", "CUBLAS_STATUS_", "CUDNN_STATUS_")
SMALLER = "lower chunk_size or resolution"


def first_line(error: BaseException) -> str:
    """What an error says in one line, which is its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    gpu = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    return isinstance(error, (gpu, MemoryError)) or any(words in str(error) for words in FULL)


def is_of_gpu(error: BaseException) -> bool:
    """Of a GPU that computes nothing more for this process, whatever it is asked."""
    return (
        isinstance(error, RuntimeError)
        and not is_out_of_memory(error)
        and any(words in str(error) for words in LOST)
    )


def loses_gpu(error: BaseException) -> bool:
    """Another process may have it again."""
    return is_of_gpu(error) and UNBUILT not in str(error)


def reason_of(error: BaseException, smaller: str = SMALLER) -> str:
    """smaller: what needs less memory."""
    first = first_line(error)
    if is_out_of_memory(error):
        return f"out of memory ({first}): {smaller}"
    if loses_gpu(error):
        return f"{first}: the GPU is lost to this process. See dmesg and nvidia-smi, and start it again"
    if is_of_gpu(error):
        return f"{first}: this torch is not built for this GPU; install one that is (see loger doctor)"
    return f"{type(error).__name__}: {error}"
