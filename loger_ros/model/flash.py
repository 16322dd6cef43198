"""The optional flash-attn backend: FlashAttention 3 or 2 if installed, in half precision on a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

CANNOT_BE_IMPORTED = "is installed but cannot be imported"
_PACKAGES = {"flash_attn_interface": "FlashAttention 3", "flash_attn": "FlashAttention 2"}
_NEEDS = {  # compute capability; the kernels of version 3 are for sm_90a, which no newer GPU runs
    "FlashAttention 3": ("9.x", lambda capability: capability[0] == 9),
    "FlashAttention 2": ("8.0", lambda capability: capability >= (8, 0)),
}


class Package(NamedTuple):
    name: str
    attend: Callable[..., Tensor] | None
    problem: str = ""  # why it is installed but cannot be used


@lru_cache(maxsize=1)
def installed() -> tuple[Package, ...]:
    """Return the installed packages, newest first."""
    found = []
    for module, name in _PACKAGES.items():
        try:
            found.append(Package(name, importlib.import_module(module).flash_attn_func))
        except Exception as error:  # a build for another torch or GPU may raise anything
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                continue
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            found.append(Package(name, None, f"{name} {CANNOT_BE_IMPORTED}: {reason}"))
    return tuple(found)


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return None if flash-attn can run, else the reason in a few words."""
    if device.type != "cuda":
        return f"it needs a CUDA GPU, but the model is on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in bfloat16 or float16, but the model holds {dtype}".replace("torch.", "")
    if _suited(device) is not None:
        return None
    major, minor = torch.cuda.get_device_capability(device)
    reasons = [
        package.problem
        or f"{package.name} needs compute capability {_NEEDS[package.name][0]}, this GPU has {major}.{minor}"
        for package in installed()
    ]
    return "; ".join(reasons) or "the package flash-attn is not installed"


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v (B, heads, L, head_dim) → (B, heads, L, head_dim)."""
    attend = _suited(q.device)
    if attend is None:
        raise RuntimeError("flash-attn cannot run here: choose the 'sdpa' attention backend")
    out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    out = out[0] if isinstance(out, tuple) else out  # some releases return the log-sum-exp as well
    return out.transpose(1, 2)


def _suited(device: torch.device) -> Callable[..., Tensor] | None:
    capability = torch.cuda.get_device_capability(device)
    return next(
        (package.attend for package in installed() if package.attend and _NEEDS[package.name][1](capability)),
        None,
    )
