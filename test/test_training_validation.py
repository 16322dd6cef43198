"""Unseen places: films of the cameras that the recipe trains for, scored as it trains."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from recipes import RECIPE

from loger_ros.model import build_model
from loger_ros.share import share_file
from loger_ros.training import validation as validation_module
from loger_ros.training.bank import RunError
from loger_ros.training.recipe import Recipe, Validation
from loger_ros.training.validation import Examiner
from loger_ros.world import generate
from loger_ros.world.sequences import Sequence


@pytest.fixture
def asked(monkeypatch) -> list:
    """Specifications of the sequences that are made."""
    specs = []

    def sought(spec, seed, index):
        specs.append(spec)
        return generate(spec, seed, index)

    monkeypatch.setattr(validation_module, "generate", sought)
    monkeypatch.setattr(Sequence, "frames", lambda *_: iter(()))
    return specs


def tiny(sequences: int = 1, **clips) -> Recipe:
    recipe = Recipe.from_yaml(share_file("config/training/tiny.yaml"))
    return dataclasses.replace(
        recipe,
        clips=dataclasses.replace(recipe.clips, **clips),
        stages=(),
        validation=Validation(every=1, sequences=sequences, frames=2),
    )


@pytest.mark.parametrize(("metric", "alignment"), [(True, "se3"), (False, "sim3")])
def test_a_network_that_is_not_to_know_the_unit_is_not_asked_for_it(monkeypatch, metric, alignment):
    aligned, units = [], []
    error, stream = validation_module.absolute_error, validation_module.Reconstructor.from_config
    monkeypatch.setattr(
        validation_module, "absolute_error", lambda *all: aligned.append(all[2]) or error(*all)
    )
    monkeypatch.setattr(
        validation_module.Reconstructor,
        "from_config",
        lambda model, settings, **more: units.append(settings.unit) or stream(model, settings, **more),
    )
    recipe = dataclasses.replace(Recipe.from_text(RECIPE), metric=metric)
    torch.manual_seed(0)
    Examiner(recipe).examine(build_model(recipe.model))
    assert aligned == [alignment]
    assert (units == [1.0]) is not metric


def test_validation_sees_the_heights_of_the_recipe_and_textures_of_its_own(asked):
    Examiner(tiny(3, camera_heights=(1.3, 1.5), motions=("robot",)))
    assert {spec.split for spec in asked} == {"validation"}
    heights = [spec.camera_height for spec in asked]
    assert len(set(heights)) == 3
    assert 1.3 <= min(heights) <= max(heights) <= 1.5


def test_validation_has_the_cameras_that_training_imitates(asked):
    recipe = tiny(3, motions=("robot",))
    narrow = dataclasses.replace(recipe, views=(30.0, 40.0), tilts=(-4.0, 5.0))
    for _ in range(2):
        Examiner(narrow)
    angles, pitches = [spec.hfov for spec in asked], [spec.camera_pitch for spec in asked]
    assert (angles[:3], pitches[:3]) == (angles[3:], pitches[3:])
    assert len(set(angles)) == len(set(pitches)) == 3
    assert 30 <= min(angles) <= max(angles) <= 40
    assert 10 - 4 <= min(pitches) <= max(pitches) <= 10 + 5
    for views, cameras in ((None, {(70, 10)}), (recipe.views, {(None, None)})):
        asked.clear()
        Examiner(dataclasses.replace(recipe, views=views))
        assert {(spec.hfov, spec.camera_pitch) for spec in asked} == cameras


def test_a_film_that_cannot_be_made_is_named():
    steep = dataclasses.replace(tiny(), tilts=(80.0, 90.0))
    with pytest.raises(RunError, match="sequence 0 of the recipe's validation: camera_pitch must be"):
        Examiner(steep)


def test_films_are_rendered_where_it_trains(monkeypatch):
    used = []

    def noted(sequence, device="cpu"):
        used.append(str(device))
        return iter(())

    monkeypatch.setattr(Sequence, "frames", noted)
    Examiner(tiny(), torch.device("cuda"))
    assert used == ["cuda"] * 2, "one for each motion"
