"""Clips that training learns from: rendered once, in time, by one run, of all kinds that are asked for."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from loger_ros.files import locked
from loger_ros.training import bank as bank_module
from loger_ros.training.bank import OutOfTime, RunError, make_bank
from loger_ros.training.batches import draw
from loger_ros.training.recipe import Clips
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.generate import ATTEMPTS


def test_a_bank_that_was_killed_goes_on_from_its_last_block(tmp_path, monkeypatch):
    clips = Clips(count=5, frames=2, render_size=(28, 21), image_size=(28, 21))
    monkeypatch.setattr(bank_module, "_BLOCK", 2)
    render, rendered = bank_module._render_clip, []

    def mortal(clips, number, device):
        if number == 3 and number not in rendered:
            rendered.append(number)
            raise KeyboardInterrupt
        rendered.append(number)
        return render(clips, number, device)

    monkeypatch.setattr(bank_module, "_render_clip", mortal)
    with pytest.raises(KeyboardInterrupt):
        make_bank(clips, "cpu", tmp_path)
    there = make_bank(clips, "cpu", tmp_path)
    assert rendered == [0, 1, 2, 3, 2, 3, 4]
    left = {file.name for file in tmp_path.iterdir()}
    assert {Path(name).suffix for name in left - {"lock"}} == {".safetensors"}
    assert len(left) == 2
    again, new = make_bank(clips, "cpu", tmp_path), make_bank(clips, "cpu")
    assert len(rendered) == 7 + 5, "what lies there is not rendered again"
    for field in dataclasses.fields(there):
        a, b, c = (getattr(bank, field.name) for bank in (there, again, new))
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("damaged", ["a block", "all"])
def test_clips_of_a_damaged_file_are_rendered_anew(tmp_path, monkeypatch, caplog, damaged):
    clips = Clips(count=3, frames=2, render_size=(28, 21), image_size=(28, 21))
    monkeypatch.setattr(bank_module, "_BLOCK", 2)
    if damaged == "a block":
        with pytest.raises(OutOfTime):
            make_bank(clips, "cpu", tmp_path, until=0.0)
    else:
        make_bank(clips, "cpu", tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    there, new = make_bank(clips, "cpu", tmp_path), make_bank(clips, "cpu")
    assert torch.equal(there.rgb, new.rgb)
    assert f"{file} is damaged" in caplog.text


def test_rendering_ends_in_time_and_goes_on(tmp_path, monkeypatch):
    clips = Clips(count=5, frames=2, render_size=(28, 21), image_size=(28, 21))
    monkeypatch.setattr(bank_module, "_BLOCK", 2)
    for blocks in (1, 2):  # at least one each time, or it would never end
        with pytest.raises(OutOfTime):
            make_bank(clips, "cpu", tmp_path, until=0.0)
        assert len(list(tmp_path.glob("*.safetensors"))) == blocks
    there, new = make_bank(clips, "cpu", tmp_path, until=0.0), make_bank(clips, "cpu")
    assert torch.equal(there.rgb, new.rgb)


def test_a_bank_is_filled_by_one_run(tmp_path):
    clips = Clips(count=1, frames=2, render_size=(28, 21), image_size=(28, 21))
    other = locked(tmp_path / "lock")
    with pytest.raises(RunError, match="already being filled by another process"):
        make_bank(clips, "cpu", tmp_path)
    os.close(other)
    assert len(make_bank(clips, "cpu", tmp_path)) == 1


def test_a_clip_that_cannot_be_made_is_named():
    clips = Clips(count=1, frames=2, camera_height=30.0, render_size=(28, 21), image_size=(28, 21))
    with pytest.raises(RunError, match="clip 0 of the recipe: camera_height must be 0"):
        make_bank(clips, "cpu")


def test_every_kind_of_clip_has_every_effect():
    specs = set()

    def noted(spec, seed, index):
        specs.add((spec.place, spec.motion, spec.effects))
        raise StopIteration

    clips = Clips(
        count=24,
        frames=2,
        places=("rooms", "street"),
        motions=("robot", "handheld"),
        effects=("none", "mild"),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bank_module, "generate", noted)
        for index in range(8):
            with pytest.raises(StopIteration):
                bank_module._render_clip(clips, index, "cpu")
    assert len(specs) == 8


def test_levers_and_heights_follow_nothing_that_the_world_draws():
    clips = Clips(count=1, frames=2, camera_forward=(0.0, 1.0), camera_heights=(1.0, np.e))
    drawn = [np.random.default_rng([3, n, a]).uniform() for n in range(20) for a in range(ATTEMPTS)]
    for n in range(20):
        for share in (clips.forward_of(3, n), np.log(clips.height_of(3, n))):
            assert np.abs(np.array(drawn) - share).min() > 1e-9
    focal = [generate(SequenceSpec(frames=2), 3, n).camera.fx for n in range(20)]
    levers = [clips.forward_of(3, n) for n in range(20)]
    assert abs(np.corrcoef(focal, levers)[0, 1]) < 0.5


def test_motions_are_drawn_as_asked_for():
    clips = Clips(count=2, frames=4, motions=("robot", "handheld"), render_size=(56, 42))
    both = make_bank(clips, "cpu")
    assert (both.unit > 0).tolist() == [True, False]
    generator = torch.Generator().manual_seed(0)
    for motions, known in (
        (("robot",), {True}),
        (("handheld",), {False}),
        (("robot", "handheld"), {True, False}),
    ):
        batch = draw(both, 20, 2, (1, 1), generator, motions)
        assert set((batch.unit > 0).tolist()) == known
    with pytest.raises(ValueError, match="flying"):
        draw(both, 2, 2, (1, 1), generator, ("flying",))


@pytest.mark.parametrize(("reach", "low", "high"), [((0.8, 0.9), 0.8, 0.9), (None, 0, 0.15)])
def test_cameras_are_carried_as_far_ahead_as_asked_for(monkeypatch, reach, low, high):
    carried = []

    def generated(*arguments):
        sequence = generate(*arguments)
        carried.append(sequence.mount.forward)
        return sequence

    monkeypatch.setattr(bank_module, "generate", generated)
    clips = Clips(count=4, frames=2, camera_forward=reach, render_size=(16, 12), image_size=(16, 12))
    for _ in range(2):
        make_bank(clips, "cpu")
    assert carried[:4] == carried[4:]
    assert len(set(carried)) == 4
    assert low <= min(carried) <= max(carried) <= high


def test_low_cameras_are_as_frequent_as_high_ones_where_a_range_is_given():
    clips = Clips(count=1, frames=2, camera_heights=(0.25, 1.0))
    heights = np.array([clips.height_of(1, index) for index in range(400)])
    assert clips.height_of(1, 7) == heights[7]
    assert 0.25 <= heights.min() <= 0.26
    assert 0.97 <= heights.max() <= 1.0
    assert 0.4 < np.mean(heights < 0.5) < 0.6, "a half lies below the geometric middle"


def test_clips_of_robots_have_the_heights_of_the_recipe():
    clips = Clips(count=3, frames=2, camera_heights=(0.3, 0.5), render_size=(16, 12), image_size=(16, 12))
    made = make_bank(clips, "cpu")
    assert made.unit.tolist() == pytest.approx([clips.height_of(1, index) for index in range(3)])
