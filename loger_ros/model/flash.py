"""The optional flash-attn backend: FlashAttention 3 or 2 where installed, in half precision on a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_PACKAGES = {"flash_attn_interface": "FlashAttention 3", "flash_attn": "FlashAttention 2"}
_NEEDS = {  # of the compute capability; the kernels of 3 are for sm_90a, which no newer GPU runs
    "FlashAttention 3": ("9.x", lambda capability: capability[0] == 9),
    "FlashAttention 2": ("8.0", lambda capability: capability >= (8, 0)),
}


@lru_cache(maxsize=1)
def installed() -> dict[str, Callable[..., Tensor]]:
    """The best first."""
    found = {}
    for package, name in _PACKAGES.items():
        try:
            found[name] = importlib.import_module(package).flash_attn_func
        except (ImportError, OSError, AttributeError):  # absent, or built for another torch
            continue
    return found


def why_not_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    """None where flash-attn can run, else the reason in a few words."""
    if device.type != "cuda":
        return f"it needs a CUDA GPU and the model is on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in bfloat16 or float16 and the model holds {dtype}".replace("torch.", "")
    if _suited(device) is not None:
        return None
    major, minor = torch.cuda.get_device_capability(device)
    reasons = [
        f"{name} needs compute capability {_NEEDS[name][0]}, this GPU has {major}.{minor}"
        for name in installed()
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
    return next((attend for name, attend in installed().items() if _NEEDS[name][1](capability)), None)
