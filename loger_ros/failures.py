"""What an error of the network means to its operator, in one line that says what to do.

torch has types for few such errors, and these moved between versions, so the message has to be read.
"""

from __future__ import annotations

import torch

FULL = (
    "can't allocate memory",  # on a CPU
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "NVML_SUCCESS == r",  # on a Jetson
    "_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # no room for what cuBLAS itself needs
)
OF_GPU = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS_", "CUDNN_STATUS_")
UNFIT = ("no kernel image", "unsupported toolchain", "invalid device function", "_STATUS_NOT_SUPPORTED")
SMALLER = "lower stream.chunk_size or stream.resolution"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if there is no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    gpu = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    if isinstance(error, (gpu, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def is_of_gpu(error: BaseException) -> bool:
    return (
        isinstance(error, RuntimeError)
        and not is_out_of_memory(error)
        and any(words in str(error) for words in OF_GPU)
    )


def loses_gpu(error: BaseException, device: torch.device) -> str:
    """Return why this process can no longer compute; empty if it can, or if another could not either."""
    if not is_of_gpu(error) or _is_unfit(error) or works(device):
        return ""
    return f"{first_line(error)}: the GPU is lost to this process. See dmesg and nvidia-smi"


def works(device: torch.device) -> bool:
    """Whether this process can still compute, which it can after some errors of CUDA but not after most.

    Tried twice, since the first call may still report the earlier error.
    """
    return _computes(device) or _computes(device)


def _computes(device: torch.device) -> bool:
    try:
        return float(torch.ones(1, device=device) + 1) == 2
    except RuntimeError as error:
        return is_out_of_memory(error)


def reason_of(error: BaseException, smaller: str = SMALLER) -> str:
    """Explain an error in one line; smaller: how to need less memory."""
    first = first_line(error)
    if is_out_of_memory(error):
        return f"out of memory ({first}): {smaller}"
    if not is_of_gpu(error):
        return f"{type(error).__name__}: {error}"
    if _is_unfit(error):
        return f"{first}: this torch, the driver and the GPU are not compatible (see loger doctor)"
    return f"{first}: the GPU fails. See dmesg and nvidia-smi, and restart this process if that persists"


def _is_unfit(error: BaseException) -> bool:
    return any(words in str(error) for words in UNFIT)
