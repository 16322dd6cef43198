"""The optional flash-attn backend: FlashAttention 3 or 2 where installed, in half precision on a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_PACKAGES = {"flash_attn_interface": "FlashAttention 3", "flash_attn": "FlashAttention 2"}


@lru_cache(maxsize=1)
def _installed() -> tuple[str, Callable[..., Tensor]] | None:
    for package, name in _PACKAGES.items():
        try:
            return name, importlib.import_module(package).flash_attn_func
        except (ImportError, OSError, AttributeError):  # absent, or built for another torch
            continue
    return None


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    """None where flash-attn can run, else the reason in a few words."""
    if device.type != "cuda":
        return f"it needs a CUDA GPU and the model is on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in bfloat16 or float16 and the model holds {dtype}".replace("torch.", "")
    found = _installed()
    if found is None:
        return "the package flash-attn is not installed"
    capability = torch.cuda.get_device_capability(device)
    needed = (9, 0) if found[0] == "FlashAttention 3" else (8, 0)
    if capability < needed:
        return f"{found[0]} needs compute capability {needed[0]}.{needed[1]}, this GPU has {capability}"
    return None


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v (B, heads, L, head_dim) → (B, heads, L, head_dim)."""
    found = _installed()
    if found is None:
        raise RuntimeError("flash-attn is not installed: choose the 'sdpa' attention backend")
    out = found[1](q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    out = out[0] if isinstance(out, tuple) else out  # some releases return the log-sum-exp as well
    return out.transpose(1, 2)
