"""Says what a checkpoint file is and whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loger_ros.files import sha256_of
from loger_ros.model.catalog import PUBLISHED
from loger_ros.model.checkpoint import CheckpointError, not_finite, open_checkpoint
from loger_ros.model.config import PRESETS
from loger_ros.model.weights import carried, fitted_model, recommended


@dataclass(frozen=True)
class CheckpointReport:
    path: Path
    ok: bool
    message: str  # one sentence, also if all is well
    size: int = 0  # bytes
    kind: str | None = None  # "torch" or "safetensors"
    model: str | None = None  # "loger", "loger_star", or "own" if the file contains its own config
    tensors: int = 0  # without those that no computation uses
    parameters: int = 0
    dtypes: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()  # names of tensors with NaN or infinite values
    sha256: str | None = None


def verify_checkpoint(path: str | Path, *, contents: bool = True) -> CheckpointReport:
    """Never raises for a bad file. Without ``contents`` only the structure is read, which takes no time."""
    path = Path(path)
    try:
        return looked_at(path, contents=contents)
    except CheckpointError as error:
        return CheckpointReport(path, False, str(error))
    except OSError as error:
        return CheckpointReport(path, False, f"{path} cannot be read: {error.strerror}")


def looked_at(path: Path, *, contents: bool) -> CheckpointReport:
    """Return the report; raise CheckpointError for a bad file, NotRead or OSError if it was not read."""
    checkpoint = open_checkpoint(path)
    model = fitted_model(checkpoint)
    recommended(checkpoint)
    carried(checkpoint)
    preset = next((name for name, config in PRESETS.items() if config == model.config), None)
    title = PUBLISHED[preset].title if preset else "A model with its own config"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()}
    broken = tuple(not_finite(checkpoint.tensors)) if contents else ()
    message = f"{title}, {parameters:,} parameters in {' and '.join(sorted(dtypes))}"
    if broken:
        shown = ", ".join(broken[:4]) + (", …" if len(broken) > 4 else "")
        message = (
            f"{path}: {len(broken)} tensors hold NaN or infinite values: {shown}. Fetch or train it again"
        )
    return CheckpointReport(
        path=path,
        ok=not broken,
        message=message,
        size=path.stat().st_size,
        kind=checkpoint.kind,
        model=preset or "own",
        tensors=len(checkpoint.tensors),
        parameters=parameters,
        dtypes=tuple(sorted(dtypes)),
        not_finite=broken,
        sha256=sha256_of(path) if contents else None,
    )
