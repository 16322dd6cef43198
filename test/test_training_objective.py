"""What the student is told is true: losses vanish at the truth alone, matches hit what they name."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from networks import small_images, small_model

from loger_ros.model import load_model
from loger_ros.stream.view import View
from loger_ros.training import student
from loger_ros.training.aids import Observed, attention_loss, log_sum_exp, match, observed
from loger_ros.training.bank import make_bank
from loger_ros.training.batches import Batch, draw
from loger_ros.training.initialise import initialise, open_memory
from loger_ros.training.losses import (
    chain,
    drift_loss,
    length_loss,
    objective,
    pose_loss,
    relative_poses,
    seen_together,
    true_points,
    whole,
)
from loger_ros.training.recipe import Clips, Recipe, Stage
from loger_ros.types import Camera, Prediction
from loger_ros.world.paths.trajectories import Mount

STAGE = Stage(
    "test", 100, 10, (4,), length=7, overlap=1,
    chained_weight=1.0, global_weight=1.0, length_weight=1.0, drift_weight=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def bank():
    return make_bank(Clips(count=2, frames=12, render_size=(56, 42)), "cpu")


def sample(bank, length: int = 7, batch: int = 6, seed: int = 0) -> Batch:
    return draw(bank, batch, length, (1, 2), torch.Generator().manual_seed(seed))


def perfect(batch: Batch, units: float = 1.0) -> Prediction:
    """The truth in another frame, in heights of the camera or ``units`` times as many."""
    scale = units / batch.unit.view(-1, 1, 1, 1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    frame = torch.eye(4)
    frame[:3, :3] = turn * torch.linalg.det(turn)
    frame[:3, 3] = torch.tensor([0.3, -1.0, 2.0])
    poses = frame @ batch.poses
    poses[..., :3, 3] *= scale[..., 0]
    points = torch.where(true_points(batch).isfinite(), true_points(batch), 1.0) * scale[..., None]
    return Prediction(points, torch.full((*points.shape[:-1], 1), 20.0), poses)


def chunks(batch: Batch) -> list[Batch]:
    return [batch.part(0, 4), batch.part(3, 7)]


@pytest.mark.parametrize(("metric", "scale"), [(True, 1.0), (False, 1.0), (False, 0.3)])
def test_the_truth_costs_nothing(bank, metric, scale):
    parts = chunks(sample(bank))
    report = objective([perfect(part, scale) for part in parts], parts, STAGE, metric)
    for name in (
        "points",
        "pose",
        "chained",
        "global",
        "length",
        "drift",
        "rotation / still",
        "translation / still",
    ):
        assert report.parts[name] < 2e-3, name


def test_points_are_in_the_world_where_all_chunks_together_put_them(bank):
    """A chunk that is joined wrongly costs nothing by itself, but all that comes after it is elsewhere."""
    parts = chunks(sample(bank))
    said = [perfect(part) for part in parts]
    astray = said[0].camera_poses.clone()
    astray[:, -1, :3, 3] += 0.5  # of the camera's height: the frame by which the second chunk is joined
    turned = [dataclasses.replace(said[0], camera_poses=astray), said[1]]
    true, wrong = (objective(told, parts, STAGE, metric=True).parts for told in (said, turned))
    assert wrong["points"] == true["points"]
    assert wrong["global"] > true["global"] + 0.02
    # Cameras that lie on their side and say so see the same world.
    side = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    lying = []
    for number, view in enumerate(said):
        poses, points = view.camera_poses.clone(), view.local_points.clone()
        first = 1 if number == 0 else 0  # but for the one that all is seen from
        poses[:, first:, :3, :3] = poses[:, first:, :3, :3] @ side
        points[:, first:] = points[:, first:] @ side
        lying.append(dataclasses.replace(view, camera_poses=poses, local_points=points))
    other = objective(lying, parts, STAGE, metric=True).parts
    assert other["points"] > true["points"] + 0.1
    assert other["global"] < true["global"] + 1e-3
    alone = dataclasses.replace(STAGE, global_weight=0.0)
    assert "global" not in objective(said, parts, alone, metric=True).parts


def test_under_autocast_the_objective_and_the_aids_are_exact(bank, monkeypatch):
    """Products of poses in bfloat16 are wrong by a tenth of a degree."""
    seen = []
    for name in ("objective", "match", "attention_loss"):
        told = getattr(student, name)

        def spy(*arguments, told=told):
            seen.append(torch.is_autocast_enabled("cpu"))
            return told(*arguments)

        monkeypatch.setattr(student, name, spy)
    model = small_model()
    size = model.config.encoder.img_size, model.config.patch_size
    images = Clips(count=1, frames=4, render_size=(size[0], size[0]), image_size=(size[0], size[0]))
    batch = draw(make_bank(images, "cpu"), 2, 4, (1, 1), torch.Generator().manual_seed(0))
    learner = student.Student(model, Recipe(model.config, images, (), aided_heads=1))
    with torch.autocast("cpu", torch.bfloat16):
        report = learner(batch, STAGE, 4)
    assert seen
    assert not any(seen)
    assert report.loss.dtype == torch.float32
    report.loss.backward()


def test_under_autocast_what_comes_out_is_nearly_as_exact():
    """Its heads in bfloat16 would be wrong by a fifth of a degree from frame to frame."""
    model = load_model("tiny")
    clips = Clips(count=1, frames=4, hfov=70, camera_pitch=10, render_size=(96, 72), image_size=(96, 72))
    images = make_bank(clips, "cpu").rgb.float() / 255

    def told() -> Prediction:
        with torch.no_grad():
            return model.step(model.encode(images), model.initial_memory(), 4, 1)[0]

    exact = told()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = told()
    turns = (exact.camera_poses[..., :3, :3].mT @ rounded.camera_poses[..., :3, :3])[0]
    off = torch.linalg.vector_norm((turns - turns.mT) / 2, dim=(1, 2)) / math.sqrt(2) * 180 / math.pi
    assert 0 < off.max() < 0.05
    for predicted in (rounded.local_points, rounded.confidence, rounded.camera_poses):
        assert predicted.dtype == torch.float32


def test_a_wrong_scale_costs_where_the_ground_tells_it(bank):
    parts = chunks(sample(bank))
    report = objective([perfect(part, 1.3) for part in parts], parts, STAGE, metric=True)
    assert report.parts["points"] > 0.05
    assert report.parts["translation / still"] == pytest.approx(0.3, rel=0.05)


def test_a_length_is_wrong_by_the_whole_way(bank):
    """Errors of single steps that cancel out cost nothing; a wrong unit costs its share, also backwards."""
    batch = dataclasses.replace(sample(bank), poses=torch.eye(4).repeat(6, 7, 1, 1))
    batch.poses[:, :, 2, 3] = torch.tensor([0.0, 1, 2, 3, 4, 3, 2])
    shaken, longer = batch.poses.clone(), batch.poses.clone()
    shaken[:, 1::2, 2, 3] += 0.4
    longer[..., :3, 3] *= 1.1
    parts = chunks(batch)
    assert length_loss([shaken[:, :4], shaken[:, 3:]], parts) < 0.02
    assert length_loss([longer[:, :4], longer[:, 3:]], parts) == pytest.approx(0.1, abs=0.01)
    free = [dataclasses.replace(part, unit=torch.zeros(6)) for part in parts]
    assert length_loss([longer[:, :4], longer[:, 3:]], free) == 0


def test_what_goes_to_one_side_in_every_step_costs_more_than_what_goes_to_and_fro(bank):
    """A hundredth of a radian per step about the vertical, or a centimetre to the right."""
    batch = sample(bank)
    turn, move = torch.eye(4), torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(0.01)
    turn[0, 2], turn[2, 0] = math.sin(0.01), -math.sin(0.01)
    move[0, 3] = 0.01
    exact = dataclasses.replace(STAGE, rotation_softness=1e-4, translation_softness=1e-5)
    for error, weight in ((turn, STAGE.rotation_weight), (move, STAGE.translation_weight)):
        steps = torch.linalg.inv(batch.poses[:, :-1]) @ batch.poses[:, 1:]
        steady, swaying = [batch.poses[:, 0]], [batch.poses[:, 0]]
        for number, step in enumerate(steps.unbind(1)):
            steady.append(steady[-1] @ step @ error)
            swaying.append(swaying[-1] @ step @ (error if number % 2 else torch.linalg.inv(error)))
        one, both = (torch.stack(poses, 1) for poses in (steady, swaying))
        parts = chunks(batch)
        costs = [float(drift_loss([poses[:, :4], poses[:, 3:]], parts, exact)) for poses in (one, both)]
        assert costs[0] > 0.5 * 0.01 * weight
        assert costs[1] < 0.2 * costs[0]


def test_the_scale_of_a_sample_is_one_for_its_chunks(bank):
    """A network that changes its units from chunk to chunk pays: this is what memory is for."""
    parts = chunks(sample(bank))
    consistent = objective([perfect(part, 2.0) for part in parts], parts, STAGE, metric=False)
    drifting = [perfect(part, scale) for part, scale in zip(parts, (2.0, 2.6), strict=True)]
    assert objective(drifting, parts, STAGE, metric=False).loss > consistent.loss + 0.1


def test_without_a_known_height_units_are_free(bank):
    parts = [dataclasses.replace(part, unit=torch.zeros(6)) for part in chunks(sample(bank))]
    known = chunks(sample(bank))
    free = objective([perfect(part, 1.7) for part in known], parts, STAGE, metric=True)
    assert free.parts["translation / still"] < 2e-3


def test_seeing_no_motion_has_ratio_one(bank):
    parts = chunks(sample(bank))
    still = [dataclasses.replace(perfect(p), camera_poses=torch.eye(4).expand_as(p.poses)) for p in parts]
    report = objective(still, parts, STAGE, metric=True)
    assert report.parts["rotation / still"] == pytest.approx(1.0)
    assert report.parts["translation / still"] == pytest.approx(1.0)


def test_pairs_across_chunks_are_those_that_no_chunk_has_seen():
    chunks_of = [{0, 1, 2, 3}, {3, 4, 5, 6}, {6, 7}]
    wanted = [[any({a, b} <= chunk for chunk in chunks_of) for b in range(8)] for a in range(8)]
    assert seen_together([4, 4, 2], overlap=1).tolist() == wanted


def test_a_frame_alone_has_no_pose_to_learn(bank):
    alone = sample(bank).part(0, 1)
    predicted = alone.poses.clone().requires_grad_()
    loss = pose_loss(predicted, alone.poses, STAGE)
    loss.backward()
    assert loss == 0
    assert not predicted.grad.any()


def test_joined_chunks_are_the_whole_stream(bank):
    batch = dataclasses.replace(sample(bank), unit=torch.ones(6))
    parts = chunks(batch)
    joined = chain([perfect(parts[0]).camera_poses, parts[1].poses], overlap=1)
    true = whole([part.poses for part in parts], 1)
    assert torch.equal(true, batch.poses)
    assert pose_loss(joined, true, STAGE) < 1e-3
    torch.testing.assert_close(relative_poses(joined), relative_poses(true), atol=1e-4, rtol=0)


def test_a_batch_is_a_function_of_its_seed(bank):
    a, b, other = sample(bank), sample(bank), sample(bank, seed=1)
    for field in dataclasses.fields(Batch):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name))
    assert not torch.equal(a.images, other.images)


@pytest.mark.parametrize("patch", [6, 7, 14])
def test_a_camera_that_stands_still_sees_everything_where_it_was(bank, patch):
    batch = sample(bank, batch=2)
    still = dataclasses.replace(
        batch,
        poses=batch.poses[:, :1].expand_as(batch.poses),
        depth=batch.depth[:, :1].expand_as(batch.depth),
    )
    matches = match(still, patch)
    rows, columns = matches.grid
    own = matches.where.new_tensor([[x, y] for y in range(rows) for x in range(columns)])
    torch.testing.assert_close(matches.where, own.expand_as(matches.where), atol=1e-3, rtol=0)
    assert matches.seen.all()


def test_matches_show_the_same_surface(bank):
    """Colours agree where the match says, in mirrored and reversed clips as well."""
    batch = sample(bank, batch=12)
    matches = match(batch, 7)
    assert 0.3 < matches.seen.float().mean() < 1
    own = matches.where.new_tensor([[x, y] for y in range(6) for x in range(8)])
    moved = (matches.where - own).norm(dim=-1)[matches.seen]
    assert moved.mean() > 0.05
    # the colour at both ends, against the colour where it would be without motion
    colours = torch.nn.functional.avg_pool2d(batch.images.flatten(0, 1), 7, 7).unflatten(0, (12, 7))
    grid = (matches.where + 0.5) / matches.where.new_tensor([8, 6]) * 2 - 1
    target = batch.images[:, list(matches.target)].flatten(0, 1)
    blurred = torch.nn.functional.avg_pool2d(target, 7, 1, 3, count_include_pad=False)
    found = torch.nn.functional.grid_sample(blurred, grid.flatten(0, 1)[:, None], align_corners=False)
    found = found[:, :, 0].mT.unflatten(0, (12, 7))
    here = colours[:, list(matches.source)].flatten(3).mT
    there = colours[:, list(matches.target)].flatten(3).mT
    far = matches.seen & ((matches.where - own).norm(dim=-1) > 0.7)
    assert (found - here)[far].abs().mean() < 0.7 * (there - here)[far].abs().mean()


def test_attention_to_the_match_costs_nothing(bank):
    batch = sample(bank, length=3)
    still = dataclasses.replace(
        batch,
        poses=batch.poses[:, :1].expand_as(batch.poses),
        depth=batch.depth[:, :1].expand_as(batch.depth),
    )
    matches = match(still, 7)
    patches, specials = 48, 3
    codes = torch.eye(patches).repeat(3, 1, 1)
    codes = torch.cat([torch.zeros(3, specials, patches), codes], 1)  # the same patch, the same code
    frame = torch.zeros(3, specials + patches, 3)
    for i in range(3):
        frame[i, :, i] = 1
    keys = torch.cat([codes, frame], -1).flatten(0, 1)
    queries = torch.cat([codes, frame[[2, 0, 0]]], -1).flatten(0, 1)  # asks in the partner frame
    sharp = 200 * keys.shape[-1] ** 0.5
    seen = Observed((queries * sharp).expand(6, 2, -1, -1), keys.expand(6, 2, -1, -1))
    blind = Observed(torch.zeros_like(seen.q), seen.k)
    assert attention_loss([seen], matches, 3) < 0.02
    assert attention_loss([blind], matches, 3) > 4


def test_the_sum_of_scores_has_the_gradient_of_autograd():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, n, 4, generator=generator, dtype=torch.float64) for n in (5, 7))
    q, k = 8 * q.requires_grad_(), k.requires_grad_()
    assert torch.allclose(log_sum_exp(q, k), (q @ k.mT).logsumexp(-1))
    assert torch.autograd.gradcheck(log_sum_exp, (q, k))


def test_observing_leaves_the_model_as_it_was():
    model = small_model()
    images = torch.rand(1, 3, 3, 12, 16)
    before, _ = model.step(images, model.initial_memory(), 3, 1)
    with observed(model, 1) as seen:
        during, _ = model.step(images, model.initial_memory(), 3, 1)
    assert len(seen) == 2
    assert seen[0].q.shape[1] == 1
    assert "attend" not in vars(model.decoder[1].attn)
    assert torch.equal(before.camera_poses, during.camera_poses)


def test_what_a_narrow_camera_does_not_see_is_black_and_not_learnt(bank):
    generator = torch.Generator().manual_seed(2)
    batch = draw(bank, 40, 2, (1, 1), generator, views=(40, 60))
    unseen = ~batch.depth.isfinite()
    assert 0.2 < unseen.float().mean() < 0.9
    assert (unseen == unseen[:, :1]).all(), "the borders move"
    assert not batch.images.movedim(2, -1)[unseen].any()
    slopes = batch.slopes()
    widest = torch.tensor(60.0).div(2).deg2rad().tan()
    outside = (slopes[..., 0].abs() > widest)[:, None].expand_as(unseen)
    assert unseen[outside].all()


@pytest.mark.parametrize("pitch", [2.0, 10.0, 19.0])
def test_other_cameras_are_imitated_as_the_stream_shows_them(pitch):
    """The same pixels are black as in the view of a camera of 70 degrees with that pitch."""
    clips = Clips(count=2, frames=3, hfov=84, camera_pitch=10, render_size=(56, 42))
    generator = torch.Generator().manual_seed(2)
    tilt = pitch - 10
    batch = draw(make_bank(clips, "cpu"), 40, 2, (1, 1), generator, views=(70, 70), tilts=(tilt, tilt))
    seen = batch.depth[:, 0].isfinite().numpy()
    mounted = Mount(0.5, pitch).transform()
    focal = 280 / np.tan(np.radians(35))
    matrix = np.array([[focal, 0, 279.5], [0, focal, 209.5], [0, 0, 1]])
    view = View(Camera(560, 420, matrix, T_base_camera=mounted), (56, 42), 84, pitch=10)
    shown = view(np.full((420, 560, 3), 255, np.uint8))[..., 0] > 127
    agreeing = (seen == shown).mean((1, 2))
    assert 0.4 < (agreeing > 0.97).mean() < 0.95, "the others imitate flat sensors"
    assert agreeing.min() > 0.6


def test_a_memory_that_was_never_trained_says_nothing():
    """Else it would disturb every stream, and the validation, until its stage comes."""
    generator = torch.Generator().manual_seed(2)
    model, images = small_model(), small_images(6)
    initialise(model, images[0], generator)
    answers = []
    for memory in (True, False):
        known = model.initial_memory()
        for start in (0, 3):
            chunk = images[:, start : start + 3]
            prediction, known = model.step(chunk, known, 3, 1, fast_weights=memory, sliding_window=memory)
        answers.append(prediction)
    assert torch.equal(answers[0].camera_poses, answers[1].camera_poses)
    open_memory(model, window=True, fast_weights=False, gate=0.3)
    known = model.initial_memory()
    for start in (0, 3):
        opened, known = model.step(images[:, start : start + 3], known, 3, 1)
    assert not torch.equal(opened.camera_poses, answers[0].camera_poses)
