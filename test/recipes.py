"""A recipe of a few seconds."""

RECIPE = """
seed: 3
model:
  patch_size: 7
  encoder: {img_size: 28, dim: 32, depth: 1, num_heads: 2, num_registers: 2}
  decoder: {dim: 32, depth: 4, num_heads: 2, num_registers: 2}
  heads: {dim: 32, depth: 1, num_heads: 2, camera_dim: 32}
  ttt_insert_after: [0]
  attn_insert_after: [2]
  ttt_head_dim: 16
clips: {count: 3, frames: 16, render_size: [28, 21], image_size: [28, 21]}
carried: {pitch: [0, 20]}
validation: {every: 100, sequences: 1, frames: 20}
stages:
  pairs: {frames: 240, frames_per_step: 8, chunk_sizes: [2]}
  memory: {frames: 240, frames_per_step: 12, chunk_sizes: [2, 3], length: 6, short_tails: 0.5,
           strides: [1, 2], fast_weights: true, sliding_window: true, chained_weight: 0.5}
"""
