"""LoGeR: attention within frames and within a chunk, memory across chunks, points and poses out."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loger_ros.model.attention import Attention, KeyValues
from loger_ros.model.blocks import Block
from loger_ros.model.carried import Carried
from loger_ros.model.config import ModelConfig
from loger_ros.model.encoder import Encoder, Features
from loger_ros.model.fast_weights import FastWeightLayer, FastWeights
from loger_ros.model.flash import CANNOT_BE_IMPORTED, why_not_flash
from loger_ros.model.heads import CameraHead, HeadDecoder, PatchHead, unproject
from loger_ros.model.layers import Linear, exact, has_autocast
from loger_ros.model.memory import Memory
from loger_ros.model.pi3x import ConvolutionalPointHead, MetricDecoder
from loger_ros.model.rope import RopeTables, rope_tables, token_positions
from loger_ros.model.sliding_window import SlidingWindowLayer
from loger_ros.types import Prediction

OUTPUTS = ("local_points", "confidence", "camera_poses")
_AFTER_DECODERS = ("point_head", "conf_head", "camera_head", "metric_head")  # these stay float32
_IMAGE_MEAN, _IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZES_KEPT = 16  # rotary tables, one per image size and head width

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Switches:
    """Which parts of the memory this step reads and writes."""

    fast_weights: bool
    window: bool
    update_fast_weights: bool
    update_window: bool


class LoGeR(nn.Module):
    """State-dict names are those of the published checkpoints."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recommended: dict[str, Any] = {}  # settings of the stream (StreamConfig) that suit the weights
        self.carried = Carried()  # how robots carried the cameras of its training
        decoder, heads = config.decoder, config.heads
        dim = decoder.dim
        self.register_token = nn.Parameter(torch.randn(1, 1, decoder.num_registers, dim) * 0.02)
        for place in range(3):
            self.register_parameter(f"pe_token_{place}", nn.Parameter(torch.randn(1, 1, 1, dim) * 0.02))
        self.register_buffer("image_mean", torch.tensor(_IMAGE_MEAN).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor(_IMAGE_STD).view(1, 3, 1, 1))
        self.encoder = Encoder(config.encoder, config.patch_size)
        self.decoder = nn.ModuleList(
            Block(dim, decoder.num_heads, decoder.mlp_ratio, qk_norm=True, layer_scale=0.01)
            for _ in range(decoder.depth)
        )
        self.ttt_layers = nn.ModuleList(
            FastWeightLayer(
                dim,
                config.ttt_head_dim,
                config.ttt_inter_multi,
                pre_norm=config.ttt_pre_norm,
                newton_schulz_steps=config.num_muon_update_steps,
                newton_schulz_dtype=config.newton_schulz,
                update_steps=config.ttt_update_steps,
                momentum=config.use_momentum,
            )
            for _ in config.ttt_insert_after
        )
        self.ttt_gate_projs = nn.ModuleList(Linear(dim, 1) for _ in config.ttt_insert_after)
        self.swa_layers = nn.ModuleList(
            SlidingWindowLayer(dim, decoder.num_heads, config.ttt_inter_multi)
            for _ in config.attn_insert_after
        )
        self.swa_gate_projs = nn.ModuleList(Linear(dim, 1) for _ in config.attn_insert_after)

        self.point_decoder = HeadDecoder(2 * dim, heads.dim, heads)
        self.point_head = (
            ConvolutionalPointHead(heads.dim, config.pi3x_dims.upsample)
            if config.pi3x
            else PatchHead(heads.dim, config.patch_size, 3)
        )
        if config.conf:
            self.conf_decoder = HeadDecoder(2 * dim, heads.dim, heads)
            self.conf_head = PatchHead(heads.dim, config.patch_size, 1)
        self.camera_decoder = HeadDecoder(2 * dim, heads.camera_dim, heads)
        self.camera_head = CameraHead(heads.camera_dim)
        if config.pi3x and config.pi3x_metric:
            self.metric_token = nn.Parameter(torch.randn(1, 1, 2 * dim) * 0.02)
            self.metric_decoder = MetricDecoder(config)
            self.metric_head = Linear(config.pi3x_dims.metric_dim, 1)
        self._rope_kept: dict[tuple[object, ...], RopeTables] = {}

    # ---- what callers use -------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.register_token.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products; norms, residual stream, fast weights, outputs: at least float32."""
        return self.camera_decoder.projects.weight.dtype

    @property
    def patch_size(self) -> int:
        return self.config.patch_size

    def initial_memory(self) -> Memory:
        return Memory()

    def reset_fast_weights(self, memory: Memory) -> Memory:
        """Forgets what was compressed and keeps the previous chunk."""
        return memory.without_fast_weights()

    def encode(self, images: Tensor) -> Features:
        """images (B, N, 3, H, W), float in [0, 1], both sides multiples of the patch size."""
        if images.ndim != 5 or images.shape[2] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images must be float (B, N, 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}"
            )
        height, width = images.shape[-2:]
        patch = self.config.patch_size
        if height % patch or width % patch or not height * width:
            raise ValueError(
                f"image sides must be positive multiples of {patch}, got {width}x{height}: resize them first"
            )
        normalised = (images.flatten(0, 1).to(self.image_mean.dtype) - self.image_mean) / self.image_std
        tokens = self.encoder(normalised)
        return Features(tokens.unflatten(0, images.shape[:2]), (height, width))

    def step(
        self,
        images_or_features: Tensor | Features,
        memory: Memory,
        chunk_size: int = 32,
        overlap: int = 3,
        *,
        outputs: Collection[str] | None = None,
        update_memory: bool = True,
        update_fast_weights: bool = True,
        fast_weights: bool = True,
        sliding_window: bool = True,
    ) -> tuple[Prediction, Memory]:
        """Return the prediction for one chunk and the memory for the next. The given memory stays valid.

        ``chunk_size`` and ``overlap`` are the settings of the stream, also for its shorter last chunk.
        ``outputs`` (all if None) are computed, others are None. Pass ``update_memory=False`` if the next
        memory is not needed, ``update_fast_weights=False`` if they will be reset first; then the given ones
        are passed on. ``fast_weights`` and ``sliding_window`` switch a memory off altogether.
        """
        features = (
            images_or_features
            if isinstance(images_or_features, Features)
            else self.encode(images_or_features)
        )
        wanted = self._wanted(outputs)
        switches = _Switches(
            fast_weights, sliding_window, update_memory and update_fast_weights, update_memory
        )
        self._require_own(memory)
        rows, columns = (side // self.config.patch_size for side in features.size)
        x = self._tokens(features.tokens, chunk_size, overlap)  # (B, N, S, C)
        out, memory = self._decode(x, memory, self._decoder_rope(rows, columns), switches)
        return self._predict(out, rows, columns, features.size, wanted), memory

    def set_attention_backend(self, backend: str) -> str:
        """Choose "auto", "sdpa" or "flash_attn" and return the one in use; refuse one that cannot run."""
        if backend not in ("auto", "sdpa", "flash_attn"):
            raise ValueError(f"attention: expected 'auto', 'sdpa' or 'flash_attn', got {backend!r}")
        reason = why_not_flash(self.device, self.dtype)
        if backend == "flash_attn" and reason:
            raise ValueError(f"attention: flash_attn cannot run here: {reason}. Use 'sdpa' or 'auto'.")
        if backend == "auto" and reason and CANNOT_BE_IMPORTED in reason:
            _log.warning(
                "attention: flash_attn cannot run here: %s. Torch's own attention is used: install a "
                "flash-attn built for torch %s, or uninstall it",
                reason,
                torch.__version__,
            )
        chosen = "flash_attn" if backend != "sdpa" and reason is None else "sdpa"
        for module in self.modules():
            if isinstance(module, Attention):
                module.backend = chosen
        return chosen

    def hold_products(self, dtype: torch.dtype) -> None:
        """Holds the weights of the large matrix products in ``dtype``, in place."""
        parameters = dict(self.named_parameters())
        for name in self.product_weights():
            parameters[name].data = parameters[name].data.to(dtype)

    def product_weights(self) -> frozenset[str]:
        """Names of the parameters that may be held in half precision: those of large matrix products."""
        return frozenset(
            f"{name}.{parameter}"
            for name, module in self.named_modules()
            if isinstance(module, Linear) or name == "encoder.patch_embed.proj"
            if not name.startswith(_AFTER_DECODERS)
            for parameter, _ in module.named_parameters(recurse=False)
        )

    # ---- the parts of a step ----------------------------------------------------------------------

    def _require_own(self, memory: Memory) -> None:
        """Refuse another model's memory: it would fail in a product, or silently change the precision."""
        layers = len(self.config.ttt_insert_after), len(self.config.attn_insert_after)
        autocast = has_autocast(self.device) and torch.is_autocast_enabled(self.device.type)
        wide = torch.promote_types(self.dtype, torch.float32)
        memory.require(layers, (wide, None if autocast else self.dtype), self.device)

    def _wanted(self, outputs: Collection[str] | None) -> frozenset[str]:
        available = [name for name in OUTPUTS if name != "confidence" or self.config.conf]
        wanted = frozenset(available if outputs is None else outputs)
        if not wanted <= set(available):
            raise ValueError(f"outputs: this model has {available}, not {sorted(wanted - set(available))}")
        return wanted

    def _tokens(self, patches: Tensor, chunk_size: int, overlap: int) -> Tensor:
        """(B, N, patches, C) → (B, N, S, C) with registers and the token of the frame's place in front."""
        batch, frames = patches.shape[:2]
        places = torch.cat(
            [
                getattr(self, f"pe_token_{place}").expand(1, count, -1, -1)
                for place, count in enumerate(place_counts(frames, chunk_size, overlap))
            ],
            1,
        )
        registers = self.register_token.expand(batch, frames, -1, -1)
        return torch.cat([registers, places.expand(batch, -1, -1, -1), patches], 2)

    def _decode(
        self, x: Tensor, memory: Memory, rope: RopeTables, switches: _Switches
    ) -> tuple[Tensor, Memory]:
        """Return the last frame and global states of x (B, N, S, C) as (B, N, S, 2C), and the next memory."""
        last_two: list[Tensor] = []
        learned: list[FastWeights] = []
        seen: list[KeyValues] = []
        for i, block in enumerate(self.decoder):
            frame_wise = i % 2 == 0  # else over the whole chunk
            x = block(x.flatten(0, 1)[:, None], rope).view(x.shape) if frame_wise else block(x, rope)
            if switches.fast_weights and i in self.config.ttt_insert_after:
                layer = self.config.ttt_insert_after.index(i)
                current = memory.fast_weights[layer] if memory.fast_weights else None
                recalled, updated = self.ttt_layers[layer](x, current, switches.update_fast_weights)
                x = x + gated(recalled, self.ttt_gate_projs[layer](x))
                learned.append(updated)
            if switches.window and i in self.config.attn_insert_after:
                layer = self.config.attn_insert_after.index(i)
                history = memory.window[layer] if memory.window else None
                seen_and_own, updated = self.swa_layers[layer](x, rope, history, switches.update_window)
                x = x + gated(seen_and_own, self.swa_gate_projs[layer](seen_and_own))
                seen.append(updated)
            if i >= len(self.decoder) - 2:
                last_two.append(x)
        return torch.cat(last_two, -1), Memory(
            tuple(learned) if switches.update_fast_weights and switches.fast_weights else memory.fast_weights,
            tuple(seen) if switches.update_window and switches.window else memory.window,
        )

    def _predict(
        self, out: Tensor, rows: int, columns: int, size: tuple[int, int], wanted: frozenset[str]
    ) -> Prediction:
        frames = out.shape[:2]
        tokens = out.flatten(0, 1)
        rope = self._rope(rows, columns, self.config.heads.dim // self.config.heads.num_heads)
        specials = self._specials

        def decoded(decoder: HeadDecoder) -> Tensor:
            return decoder(tokens, rope)[:, specials:].to(self.image_mean.dtype)

        points = confidence = poses = None
        if "local_points" in wanted:
            patches = decoded(self.point_decoder)
            with exact(patches):
                raw = (
                    self.point_head(patches, rows, columns, size)
                    if self.config.pi3x
                    else self.point_head(patches, rows, columns)
                )
                points = unproject(raw).unflatten(0, frames)
        if "confidence" in wanted:
            patches = decoded(self.conf_decoder)
            with exact(patches):
                confidence = self.conf_head(patches, rows, columns).unflatten(0, frames)
        if "camera_poses" in wanted:
            patches = decoded(self.camera_decoder)
            with exact(patches):
                poses = self.camera_head(patches).unflatten(0, frames)

        scale = None
        if self.config.pi3x and self.config.pi3x_metric and (points is not None or poses is not None):
            scale = self._metric_scale(out, rows, columns)  # (B,)
            if points is not None:
                points = points * scale.view(-1, 1, 1, 1, 1)
            if poses is not None:
                factors = torch.ones_like(poses)
                factors[..., :3, 3] = scale.view(-1, 1, 1)
                poses = poses * factors
        return Prediction(points, confidence, poses, scale)

    def _metric_scale(self, out: Tensor, rows: int, columns: int) -> Tensor:
        dims = self.config.pi3x_dims
        rope = self._rope(rows, columns, dims.metric_dim // dims.metric_heads)
        decoded = self.metric_decoder(self.metric_token, out, rope).to(self.image_mean.dtype)
        with exact(decoded):
            return self.metric_head(decoded).exp()[:, 0]

    @property
    def _specials(self) -> int:
        return self.config.decoder.num_registers + 1

    def _decoder_rope(self, rows: int, columns: int) -> RopeTables:
        return self._rope(rows, columns, self.config.decoder.dim // self.config.decoder.num_heads)

    def _rope(self, rows: int, columns: int, head_dim: int) -> RopeTables:
        """Derived from sizes alone; cached because the same few sizes recur with every chunk."""
        key = (rows, columns, head_dim, self.dtype, self.device)
        if key not in self._rope_kept:
            if len(self._rope_kept) >= _SIZES_KEPT:
                self._rope_kept.clear()
            with torch.inference_mode(False):  # a training step may follow an inference
                positions = token_positions(rows, columns, self._specials, self.device)
                frequency = self.config.rope_frequency
                self._rope_kept[key] = rope_tables(positions, head_dim, frequency, self.dtype)
        return self._rope_kept[key]


def gated(y: Tensor, gate: Tensor) -> Tensor:
    return F.silu(gate) * y


def place_counts(frames: int, chunk_size: int, overlap: int) -> tuple[int, int, int]:
    """Return how many frames are in the overlap before, in the middle and in the overlap after."""
    if not 0 <= overlap < chunk_size:
        raise ValueError(f"overlap must be at least 0 and below chunk_size {chunk_size}, got {overlap}")
    if not 0 < frames <= chunk_size:
        raise ValueError(f"a chunk holds 1 to chunk_size = {chunk_size} frames, got {frames}")
    before = min(overlap, frames)
    middle = min(max(chunk_size - 2 * overlap, 0), frames - before)
    return before, middle, frames - before - middle
