"""Analytic count of the floating-point operations of one step: two per multiply-add of matrix products."""

from __future__ import annotations

from loger_ros.model.config import ModelConfig
from loger_ros.model.loger import OUTPUTS

PARTS = ("encoder", "frame attention", "global attention", "fast weights", "sliding window", "heads")


def step_flops(
    config: ModelConfig,
    frames: int,
    size: tuple[int, int],
    *,
    history_frames: int = 0,
    outputs: tuple[str, ...] = OUTPUTS,
    update: bool = True,
) -> dict[str, int]:
    """Return the count by part, for one batch element, after a chunk of ``history_frames``.

    size: height and width of the images. Convolutional heads (pi3x) are not counted.
    """
    patch = config.patch_size
    patches = (size[0] // patch) * (size[1] // patch)
    encoder, decoder, heads = config.encoder, config.decoder, config.heads
    dim = decoder.dim
    tokens = patches + decoder.num_registers + 1  # per frame
    chunk = frames * tokens
    encoded = patches + encoder.num_registers + 1

    def block(width: int, ratio: int, queries: int, keys: int) -> int:
        """Projections and MLP of ``queries`` tokens that attend to ``keys`` tokens."""
        linear = 2 * queries * width * width * (4 + 2 * ratio)
        return linear + 4 * queries * keys * width

    head_dim, expansion = config.ttt_head_dim, config.ttt_inter_multi
    fast_heads, inner = dim // head_dim, head_dim * expansion
    product = 2 * chunk * dim * inner  # tokens times one fast matrix, over all heads
    orthogonalise = 3 * fast_heads * config.num_muon_update_steps * 2 * head_dim**2 * (2 * inner + head_dim)
    learn = config.ttt_update_steps * (6 * product + orthogonalise)
    rates = 3 * fast_heads + int(config.use_momentum)
    fast_layer = 2 * chunk * dim * (4 * dim + 1) + 3 * product
    if update:
        fast_layer += 2 * chunk * dim * rates + learn

    window_keys = chunk + history_frames * tokens
    window_layer = block(dim, config.ttt_inter_multi, chunk, window_keys) + 2 * chunk * dim

    def head_decoder(width_out: int) -> int:
        ends = 2 * chunk * (2 * dim * heads.dim + heads.dim * width_out)
        return ends + heads.depth * frames * block(heads.dim, heads.mlp_ratio, tokens, tokens)

    shown = frames * patches
    camera = 2 * shown * 6 * heads.camera_dim**2 + 2 * frames * heads.camera_dim * (2 * heads.camera_dim + 12)
    per_output = {
        "local_points": head_decoder(heads.dim)
        + (0 if config.pi3x else 2 * shown * heads.dim * 3 * patch**2),
        "confidence": (head_decoder(heads.dim) + 2 * shown * heads.dim * patch**2) if config.conf else 0,
        "camera_poses": head_decoder(heads.camera_dim) + camera,
    }
    embedding = 2 * shown * 3 * patch**2 * encoder.dim
    pairs = decoder.depth // 2
    return dict(
        zip(
            PARTS,
            (
                embedding + encoder.depth * frames * block(encoder.dim, encoder.mlp_ratio, encoded, encoded),
                pairs * frames * block(dim, decoder.mlp_ratio, tokens, tokens),
                pairs * block(dim, decoder.mlp_ratio, chunk, chunk),
                len(config.ttt_insert_after) * fast_layer,
                len(config.attn_insert_after) * window_layer,
                sum(per_output[name] for name in outputs),
            ),
            strict=True,
        )
    )
