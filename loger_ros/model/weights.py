"""Build models, and load their weights directly in the dtype and on the device where they will be used."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from loger_ros.config import StreamConfig, yaml_problem
from loger_ros.failures import is_of_gpu, is_out_of_memory, reason_of
from loger_ros.model.carried import Carried
from loger_ros.model.catalog import NAMES, PACKAGED, PUBLISHED, checkpoint_folders, find_checkpoint
from loger_ros.model.checkpoint import Checkpoint, CheckpointError, not_finite, open_checkpoint
from loger_ros.model.config import PRESETS, ConfigError, ModelConfig
from loger_ros.model.fit import matching_preset, meta_model, misfit, plausible
from loger_ros.model.loger import LoGeR

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
_MAX_YAML = 64 * 2**10  # characters
_MAX_DEPTH = 16  # of nested sections
_ODD = (ValueError, OverflowError, RecursionError)  # raised by wrong, huge or deep settings from a file

_log = logging.getLogger(__name__)


def build_model(config: str | ModelConfig) -> LoGeR:
    """A model with random weights, ready for training; works under ``torch.device("meta")``."""
    if isinstance(config, str) and config not in PRESETS:
        raise ConfigError(f"no model is called {config!r}; known models: {', '.join(PRESETS)}")
    return LoGeR(PRESETS[config] if isinstance(config, str) else config)


def load_model(
    name_or_path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    config: ModelConfig | Mapping[str, Any] | str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    attention: str = "auto",
) -> LoGeR:
    """Return a model ready to run: "loger", "loger_star" or "tiny", or from the path of a checkpoint.

    ``checkpoint`` is the file for a name, if it is not in one of the usual folders. ``config`` (or the path
    of a YAML file) is needed for a ``.pt`` that is neither LoGeR nor LoGeR*. ``device`` "auto" is a GPU if
    there is one, ``dtype`` "auto" the precision that suits the device. In half precision only the weights of
    the large products are half. The weights are copies: the file may be deleted or changed afterwards.
    """
    started = time.perf_counter()
    chosen_device = _device(device)
    chosen_dtype = _dtype(dtype, chosen_device)
    if chosen_device.type == "cuda" and chosen_dtype is torch.bfloat16:
        capability = torch.cuda.get_device_capability(chosen_device)
        if capability < (8, 0):
            _log.warning(
                "dtype: this GPU (compute capability %d.%d) computes matrix products in bfloat16 slowly or "
                "not at all: choose float16",
                *capability,
            )
    name = str(name_or_path) if str(name_or_path) in NAMES else None
    if name is None and checkpoint is not None:
        raise ValueError(f"checkpoint: {name_or_path} is already a path; give 'checkpoint' only with a name")
    opened, model = _opened(name_or_path, checkpoint, config)
    _fill(model, opened, chosen_dtype, chosen_device)
    _warn_of_missing_settings(opened)
    model.recommended, model.carried = recommended(opened), carried(opened)
    used = model.eval().requires_grad_(False).set_attention_backend(attention)
    _log.info(
        "%s: %s parameters in %s on %s, %s attention, from %s in %.1f s",
        name or "model",
        f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        str(chosen_dtype).removeprefix("torch."),
        model.device,
        used,
        opened.path,
        time.perf_counter() - started,
    )
    return model


def recommended_by(name_or_path: str | Path, device: str, dtype: str) -> dict[str, Any]:
    """Return the stream settings of a checkpoint, checked as for loading it; its weights are not loaded."""
    _dtype(dtype, _device(device))
    opened, _ = _opened(name_or_path)
    _warn_of_missing_settings(opened)
    return recommended(opened)


def device_name(device: str) -> str:
    """Return the name of a device, with "auto" resolved on this machine."""
    return str(_device(device))


def dtype_name(dtype: str, device: str) -> str:
    """Return the name of a dtype, with "auto" resolved for the device."""
    return str(_dtype(dtype, _device(device))).removeprefix("torch.")


def _opened(
    name_or_path: str | Path,
    checkpoint: str | Path | None = None,
    config: ModelConfig | Mapping[str, Any] | str | Path | None = None,
) -> tuple[Checkpoint, LoGeR]:
    """Return the open file and a model on the meta device that it fits."""
    name = str(name_or_path) if str(name_or_path) in NAMES else None
    path = Path(os.path.expanduser(checkpoint or (located(name) if name else name_or_path)))
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; models known by name: {', '.join(NAMES)}")
    opened = open_checkpoint(path)
    if config is None and name in PRESETS:
        config = PRESETS[name]
    return opened, fitted_model(opened, config, PUBLISHED[name].title if name in PUBLISHED else None)


def fitted_model(
    checkpoint: Checkpoint,
    config: ModelConfig | Mapping[str, Any] | str | Path | None = None,
    asked_for: str | None = None,
) -> LoGeR:
    """A model on the meta device whose tensors are exactly those of the checkpoint.

    Without ``config``, the one inside the file is used, or else the published model that fits.
    """
    if config is not None:
        chosen, asked_for = _config(config), asked_for or "the given config"
    elif checkpoint.config is not None:
        chosen = _embedded(checkpoint)
    else:
        preset = matching_preset(checkpoint.tensors)
        chosen = PRESETS[preset or "loger"]
        asked_for = "LoGeR, which is assumed if no config is given"
    if not plausible(chosen, checkpoint.tensors):
        raise CheckpointError(
            f"{checkpoint.path}: its {len(checkpoint.tensors)} tensors are too few for a model of "
            f"{chosen.encoder.depth} encoder and {chosen.decoder.depth} decoder blocks"
        )
    model = meta_model(chosen)
    problem = misfit(checkpoint.tensors, model, asked_for or "its config")
    if problem:
        raise CheckpointError(f"{checkpoint.path}: {problem}")
    return model


def held_dtype(name: str, products: frozenset[str], dtype: torch.dtype) -> torch.dtype:
    """Half precision is for the weights of the large products only."""
    return dtype if name in products else torch.promote_types(dtype, torch.float32)


def _fill(model: LoGeR, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
    """Copy tensor by tensor from the file to its final place, so that there is never a second copy."""
    products = model.product_weights()
    state: dict[str, Tensor] = {}
    kind = str(dtype).removeprefix("torch.")
    as_they_lie = sorted(checkpoint.tensors, key=lambda name: checkpoint.tensors[name].data_ptr())
    try:
        for name in as_they_lie:
            state[name] = checkpoint.copy(name, held_dtype(name, products, dtype), device)
        broken = not_finite(state)
    except (RuntimeError, MemoryError) as error:
        if not (is_out_of_memory(error) or is_of_gpu(error)):
            raise
        needed = sum(
            held_dtype(name, products, dtype).itemsize * tensor.numel()
            for name, tensor in checkpoint.tensors.items()
        )
        state.clear()  # the message asks for room: do not occupy it meanwhile
        half = "half precision or " if dtype.itemsize > 2 else ""
        room = f"free memory on {device}, or choose {half}another device"
        smaller = f"its weights take {needed / 1e9:.2f} GB in {kind}; {room}"
        raise CheckpointError(f"{checkpoint.path}: {reason_of(error, smaller)}") from error
    if broken:
        raise CheckpointError(
            f"{checkpoint.path}: {len(broken)} tensors are not finite in {kind}, such as {broken[0]}"
            + (" (float16 reaches only 65504: choose bfloat16)" if dtype == torch.float16 else "")
        )
    model.load_state_dict(state, assign=True)


def located(name: str) -> Path:
    """Return the checkpoint file for a known name."""
    found = find_checkpoint(name)
    if found is None:
        places = ", ".join(map(str, checkpoint_folders()))
        cure = (
            "this installation came without it: reinstall the package, or give another checkpoint"
            if name in PACKAGED
            else f"run 'loger weights fetch {name}', set LOGER_CHECKPOINTS to the folder that holds it, "
            "or give the path of the file instead of the name"
        )
        raise CheckpointError(f"no checkpoint of {name!r} was found in {places}: {cure}")
    return found


def recommended(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the stream settings that the file contains, or else those of the published model that it is."""
    if not checkpoint.stream:
        preset = matching_preset(checkpoint.tensors)
        return dict(PUBLISHED[preset].stream) if preset else {}
    try:
        _check_stream(checkpoint.stream)
    except _ODD as error:
        raise CheckpointError(
            f"{checkpoint.path}: its recommended stream settings are not valid: {error}"
        ) from error
    return dict(checkpoint.stream)


def stream_settings(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the stream settings that a YAML file gives, completed by those that a checkpoint recommends."""
    given = _read_yaml(path)
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path} holds no settings; write one per line, such as chunk_size: 32")
    settings = {**recommended(checkpoint), **given}
    try:
        _check_stream(settings)
    except _ODD as error:
        raise ConfigError(f"{path}: {error}") from error
    return settings


def _check_stream(settings: Mapping[str, Any]) -> None:
    known = {entry.name for entry in dataclasses.fields(StreamConfig)}
    if unknown := sorted(map(str, settings.keys() - known)):
        raise ConfigError(f"stream.{unknown[0]} is not a setting of this version")
    StreamConfig(**settings)


def _warn_of_missing_settings(checkpoint: Checkpoint) -> None:
    if checkpoint.stream or matching_preset(checkpoint.tensors):
        return
    _warn_once(
        f"{checkpoint.path} contains no stream settings, so settings that are not given are those of a "
        f"full-size LoGeR (chunk_size {StreamConfig.chunk_size}, resolution {StreamConfig.resolution}). "
        "If it was trained with other settings, poses are far off: write them into the file with "
        "'loger weights convert IN OUT --stream FILE'"
    )


@functools.cache
def _warn_once(warning: str) -> None:
    """Warn once, not at every load."""
    _log.warning(warning)


def carried(checkpoint: Checkpoint) -> Carried:
    try:
        return Carried.from_dict(checkpoint.carried)
    except _ODD as error:
        raise CheckpointError(f"{checkpoint.path}: its 'carried' settings are not valid: {error}") from error


def _embedded(checkpoint: Checkpoint) -> ModelConfig:
    try:
        return ModelConfig.from_dict(checkpoint.config or {})
    except _ODD as error:
        raise CheckpointError(
            f"{checkpoint.path}: no model can be built from the config inside: {error}. Give another one as "
            f"'config'"
        ) from error


def _config(config: ModelConfig | Mapping[str, Any] | str | Path) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if not isinstance(config, Mapping):
        path, config = config, _read_yaml(Path(config))
        if not isinstance(config, Mapping) or not isinstance(config.get("model", {}), Mapping):
            raise ConfigError(f"{path} holds no section with model sizes")
    return ModelConfig.from_dict(config)


def _read_yaml(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_YAML + 1)
        if len(text) > _MAX_YAML:
            raise ConfigError(f"{path} is longer than {_MAX_YAML} characters, too long for settings")
        depth = 0
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
                raise ConfigError(f"{path} uses YAML aliases or deep nesting, which settings do not need")
        return yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {yaml_problem(error)}") from error


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name == "auto":  # the choice of the published code: GPUs before Ampere have no products in bfloat16
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if name not in DTYPES:
        raise ValueError(f"dtype: expected auto or one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:0', got {str(device)!r}")
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            lacks = "is built without CUDA" if torch.version.cuda is None else "finds no GPU with a driver"
            raise ValueError(
                f"device: {str(device)!r} was asked for, but torch {torch.__version__} {lacks}. Install a "
                f"CUDA build of torch and the GPU's driver, or choose device 'cpu'"
            )
        if (chosen.index or 0) >= count:
            raise ValueError(f"device: {str(device)!r} was asked for, but the last GPU is cuda:{count - 1}")
    return chosen
