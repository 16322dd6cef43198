"""A recipe says what it lacks before anything is rendered."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from recipes import RECIPE

import loger_ros
from loger_ros.training.recipe import Recipe, RecipeError

RECIPES = Path(loger_ros.__file__).parents[1] / "config" / "training"


def test_a_variant_is_laid_over_the_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + "variants: {gpu: {clips: {count: 9}, stages: {pairs: {frames: 1000}}}}\n")
    plain, gpu = Recipe.from_yaml(path), Recipe.from_yaml(path, "gpu")
    assert (plain.clips.count, gpu.clips.count, gpu.clips.frames) == (3, 9, 16)
    assert [stage.frames for stage in gpu.stages] == [1000, 240]
    assert not plain.same_until(gpu, 0)
    with pytest.raises(RecipeError, match="known: gpu"):
        Recipe.from_yaml(path, "tpu")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_recipes_can_be_cooked(file):
    for variant in ("", *(yaml.safe_load(file.read_text()).get("variants") or {})):
        assert Recipe.from_yaml(file, variant).stages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("stages:", "stage:"), "stages"),
        (("frames: 240, frames_per_step: 8", "frame: 240, frames_per_step: 8"), "frame is not a known entry"),
        (("patch_size: 7", "patch_size: 6"), "img_size"),
        (("seed: 3", "seed: [3"), "cannot be read"),
        (("chunk_sizes: [2]", "chunk_sizes: 4"), "stages.pairs: chunk_sizes must be a list"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], overlap: 2"), "0 <= overlap < each of chunk_sizes"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], rotation_softness: 0"), "softness must be above 0"),
        (("chunk_sizes: [2]", "chunk_sizes: [1], overlap: 0"), "stages.pairs: a chunk of one frame"),
        (("count: 3", "count: 3, camera_heights: 0.4"), "clips: camera_heights must be two numbers"),
        (("count: 3", "count: 3, camera_heights: [0, 1]"), "clips: camera_heights must be above 0"),
        (("count: 3", "count: 3, camera_heights: [1, 0.5]"), "the lower one first"),
        (("count: 3", "count: 3, camera_height: 0.4, camera_heights: [0.4, 1]"), "camera_heights, not both"),
        (("count: 3", "count: 3, camera_forward: [0.5]"), "camera_forward must be two numbers"),
        (("strides: [1, 2]", "strides: [2, 1]"), "stages.memory: strides must be"),
        (("chained_weight: 0.5", "chained_weight: 0.5, overlap: 0"), "chunks that share frames"),
        (("short_tails: 0.5", "short_tails: 5"), "short_tails is a share"),
        (("pitch: [0, 20]", "pitch: 20"), "carried: pitch must be"),
        (("{pitch: [0, 20]}", "20"), "carried: "),
        (
            ("render_size: [28, 21]", "render_size: [42, 35]"),
            "image_size times a whole number.* \\[28, 21\\]",
        ),
        (("render_size: [28, 21]", "render_size: [56, 84]"), "such as \\[56, 42\\], got \\[56, 84\\]"),
        (("render_size: [28, 21]", "render_size: [14, 21]"), "image_size times a whole number"),
        (("render_size: [28, 21]", "render_size: 28"), "render_size must be a width and a height"),
        (("size: [28, 21], image_size: [28, 21]", "size: [28, 22], image_size: [28, 22]"), "patch_size, 7"),
        (("count: 3", "count: 0"), "clips: count must be at least 1"),
        (("count: 3", "count: 3, places: [moon]"), "clips: places must be a list of entries from rooms"),
        (("length: 6", "length: 17"), "stages.memory: its samples of 17 frames.* raise clips.frames"),
        (("chunk_sizes: [2]", "chunk_sizes: [2, 17]"), "stages.pairs: its samples of 17 frames"),
        (
            ("chunk_sizes: [2]", "chunk_sizes: [2], motions: [robot, flying]"),
            "stages.pairs: no .* flying: add",
        ),
        (("every: 100", "every: 0"), "validation: every and sequences must be at least 1"),
        (("carried:", "stream: {chunk_sise: 4}\ncarried:"), "stream.chunk_sise is not a known entry"),
        (("carried:", "stream:\ncarried:"), "stream: expected a section of entries"),
        (("carried: {pitch: [0, 20]}", "carried:"), "carried: expected a section"),
        (("{frames: 240, frames_per_step: 8, chunk_sizes: [2]}", ""), "stages.pairs: expected a section"),
        (("clips: {", "clips:\nclip: {"), "clips: expected a section"),
        (("stages:", "stages: {}\nvariants:"), "at least one stage"),
        (("count: 3", "count: 3e1"), "clips: count must be a whole number, got '3e1'"),
        (("count: 3", "count: 3, hfov: wide"), "clips: hfov must be a finite number, got 'wide'"),
        (("count: 3", "count: 3, camera_pitch: [10]"), "clips: camera_pitch must be a finite number"),
        (("count: 3", "count: 3, camera_pitch: true"), "clips: camera_pitch must be a finite number"),
        (("count: 3", "count: 3, camera_forward: [.nan, 1]"), "camera_forward must be two numbers"),
        (("count: 3", "count: 3, places: [[rooms]]"), "clips: places must be a list of entries from rooms"),
        (("count: 3", "count: 3, seed: -1"), "clips: seed must be at least 0, got -1"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], learning_rate: fast"), "learning_rate must be a finite"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], learning_rate: -1"), "learning_rate must be at least 0"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], muon_rate: -1e-3"), "muon_rate must be at least 0"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], muon_rate:"), "muon_rate must be a finite number, got None"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], flow_weight: .inf"), "stages.pairs: flow_weight must be"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], warm_up: .nan"), "stages.pairs: warm_up must be"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], length:"), "stages.pairs: length must be a whole number"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], motions: []"), "stages.pairs: motions must be a list"),
        (("chunk_sizes: [2]", "chunk_sizes: [2], motions: robot"), "stages.pairs: motions must be a list"),
        (("fast_weights: true", "fast_weights: 'no'"), "fast_weights must be true or false, got 'no'"),
        (("every: 100", "every: 100, seed: x"), "validation: seed must be a whole number"),
        (("seed: 3", "seed: 3.5"), "recipe: seed must be a whole number, got 3.5"),
        (("seed: 3", "seed: 3\nema: [0.9]"), "recipe: ema must be a finite number"),
        (("seed: 3", "seed: 3\nclip_gradient: -1"), "recipe: clip_gradient must be at least 0"),
        (("seed: 3", "seed: 3\nviews: [60]"), "recipe: views must be two numbers"),
        (("seed: 3", "seed: 3\nviews: [0, 60]"), "recipe: views must be above 0"),
        (("seed: 3", "seed: 3\nviews: [60, 90]\ntilts: [5, -5]"), "recipe: tilts must be two numbers"),
        (("seed: 3", "seed: 3\nviews: [60, 90]\ntilts:"), "recipe: tilts must be two numbers"),
    ],
)
def test_recipes_that_cannot_be_cooked(tmp_path, change, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(RecipeError, match=message):
        Recipe.from_yaml(path)


def test_an_error_of_yaml_is_one_line_with_file_and_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, place in (("seed: 3\nviews: [60\nx: y\n", "line 3: "), ("seed: \0", "")):
        path.write_text(text)
        with pytest.raises(RecipeError) as caught:
            Recipe.from_yaml(path)
        assert str(caught.value).startswith(f"{path} cannot be read as a recipe: {place}")
        assert "\n" not in str(caught.value)


def test_numbers_without_a_point_are_numbers():
    """5e-4 is a text to PyYAML."""
    text = RECIPE.replace("chunk_sizes: [2]", "chunk_sizes: [2], learning_rate: 5e-4, muon_rate: 1E-3")
    text = text.replace("count: 3", "count: 3, hfov: 7e1, camera_heights: [2e-1, 1]")
    recipe = Recipe.from_text(text.replace("seed: 3", "seed: 3\nviews: [6e1, 90]"))
    assert recipe.steps_of(0) == {"learning_rate": 5e-4, "muon_rate": 1e-3, "clip_gradient": 1.0}
    assert (recipe.clips.hfov, recipe.clips.camera_heights, recipe.views) == (70, (0.2, 1), (60, 90))


def test_a_section_without_validation_is_none():
    assert Recipe.from_text(RECIPE.replace("{every: 100, sequences: 1, frames: 20}", "")).validation is None
