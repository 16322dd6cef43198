from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.config import MapConfig
from loger_ros.geometry import transform
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.voxel_map import VoxelMap

SOME = settings(max_examples=40, deadline=None, derandomize=True)


def random_cloud(count, seed=0, centre=(0.0, 0, 0), spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    points = (torch.rand(count, 3, generator=generator) - 0.5) * spread + torch.tensor(centre)
    colours = torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8)
    return Cloud(points, colours, torch.rand(count, generator=generator))


def at(x, y=0.0, z=0.0):
    return transform(np.eye(3), np.array([x, y, z]))


def plain_means(clouds, size):
    """{voxel: mean of position, colour, confidence}, point by point."""
    found = {}
    for cloud in clouds:
        for point, colour, confidence in zip(cloud.points, cloud.colours, cloud.confidence, strict=True):
            key = tuple((point.double() / size).floor().long().tolist())
            found.setdefault(key, []).append([*point.tolist(), *colour.tolist(), float(confidence)])
    return {key: np.mean(values, axis=0) for key, values in found.items()}


def as_dict(cloud, size):
    keys = [tuple(key) for key in (cloud.points.double() / size).floor().long().tolist()]
    values = torch.cat([cloud.points, cloud.colours.float(), cloud.confidence[:, None]], 1).double().numpy()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, values, strict=True))


@SOME
@given(
    parts=st.lists(st.integers(0, 120), min_size=1, max_size=5),
    size=st.sampled_from([0.1, 0.37, 1.0]),
    seed=st.integers(0, 99),
)
def test_a_map_that_is_not_full_holds_every_mean(parts, size, seed):
    clouds = [random_cloud(count, seed + i) for i, count in enumerate(parts)]
    voxels = VoxelMap(MapConfig(voxel_size=size, max_voxels=1000))
    for cloud in clouds:
        voxels.insert(cloud, at(0))
    expected, got = plain_means(clouds, size), as_dict(voxels.cloud(), size)
    assert len(voxels) == len(expected)
    centre = {tuple(np.floor(np.array(value[:3]) / size).astype(int)): value for value in got.values()}
    for key, value in expected.items():
        assert np.allclose(centre[key][:3], value[:3], atol=1e-5)
        assert np.abs(centre[key][3:6] - value[3:6]).max() <= 0.501  # rounded to whole colours
        assert centre[key][6] == pytest.approx(value[6], abs=1e-5)


@pytest.mark.parametrize("eviction", ["distance", "age"])
def test_it_never_holds_more_than_it_may(eviction):
    voxels = VoxelMap(MapConfig(voxel_size=0.1, max_voxels=500, eviction=eviction))
    for i in range(30):
        voxels.insert(random_cloud(400, i, (i * 0.5, 0, 0)), at(i * 0.5))
        assert len(voxels) <= 500
        cloud = voxels.cloud()
        assert len(as_dict(cloud, 0.1)) == len(voxels)
    assert len(voxels) > 400


def test_far_voxels_go_first():
    voxels = VoxelMap(MapConfig(voxel_size=0.5, max_voxels=64))
    places = torch.arange(100.0)
    for i in range(100):
        cloud = Cloud(
            torch.tensor([[i + 0.25, 0.25, 0.25]]), torch.zeros(1, 3, dtype=torch.uint8), torch.ones(1)
        )
        voxels.insert(cloud, at(float(places[i])))
    kept = voxels.cloud().points[:, 0].sort().values
    assert torch.allclose(kept, torch.arange(100 - len(kept), 100) + 0.25)
    # Going back: what is ahead is far away now.
    for i in reversed(range(50)):
        cloud = Cloud(
            torch.tensor([[i + 0.25, 0.25, 0.25]]), torch.zeros(1, 3, dtype=torch.uint8), torch.ones(1)
        )
        voxels.insert(cloud, at(float(i)))
    assert voxels.cloud().points[:, 0].max() < 70
    assert voxels.cloud().points[:, 0].min() < 1


def test_old_voxels_leave_a_full_map_also_where_the_clock_went_back():
    """Age is counted in insertions: the map does not know stamps."""
    voxels = VoxelMap(MapConfig(voxel_size=1.0, max_voxels=400, eviction="age"))
    for i in range(60):
        row = torch.zeros(50, 3)
        row[:, 0] = torch.arange(50 * i, 50 * i + 50) + 0.5
        voxels.insert(Cloud(row, torch.zeros(50, 3).byte(), torch.ones(50)), at(0))
    assert voxels.cloud().points[:, 0].min() > 50 * 50


def test_the_longest_unseen_go_first_by_age():
    voxels = VoxelMap(MapConfig(voxel_size=1.0, max_voxels=16, eviction="age"))
    row = torch.zeros(20, 3)
    row[:, 0] = torch.arange(20) + 0.5
    for i in range(16):
        voxels.insert(Cloud(row[i : i + 1], torch.zeros(1, 3).byte(), torch.ones(1)), at(0))
    # the oldest is seen again
    voxels.insert(Cloud(row[:1], torch.zeros(1, 3).byte(), torch.ones(1)), at(0))
    for i in range(16, 18):
        voxels.insert(Cloud(row[i : i + 1], torch.zeros(1, 3).byte(), torch.ones(1)), at(0))
    kept = voxels.cloud().points[:, 0].floor().int().tolist()
    assert 0 in kept
    assert {1, 2} & set(kept) == set()
    assert {16, 17} <= set(kept)


def test_one_insertion_may_be_larger_than_the_map():
    voxels = VoxelMap(MapConfig(voxel_size=0.05, max_voxels=100))
    voxels.insert(random_cloud(3000), at(0))
    assert 80 <= len(voxels) <= 100
    assert voxels.cloud().points.norm(dim=1).max() < 1.0  # of a cube of half edge 1: the nearest stayed


def test_the_same_input_gives_the_same_map_bit_for_bit():
    maps = []
    for _ in range(2):
        voxels = VoxelMap(MapConfig(voxel_size=0.1, max_voxels=2000))
        for i in range(10):
            voxels.insert(random_cloud(2000, i, (i * 0.3, 0, 0)), at(i * 0.3))
        maps.append(voxels.cloud())
    assert torch.equal(maps[0].points, maps[1].points)
    assert torch.equal(maps[0].colours, maps[1].colours)
    assert torch.equal(maps[0].confidence, maps[1].confidence)


def test_what_lies_outside_of_the_world_is_left_out():
    voxels = VoxelMap(MapConfig(voxel_size=0.1))
    points = torch.tensor(
        [[1.0, 2, 3], [1e9, 0, 0], [0, -1e9, 0], [float("nan"), 0, 0], [float("inf"), 0, 0]]
    )
    voxels.insert(Cloud(points, torch.zeros(5, 3).byte(), torch.ones(5)), at(0))
    assert torch.allclose(voxels.cloud().points, points[:1])
    voxels.clear()
    assert len(voxels) == len(voxels.cloud()) == 0
    voxels.insert(random_cloud(0), at(0))
    assert len(voxels) == 0


def test_far_from_the_origin_means_stay_exact():
    voxels = VoxelMap(MapConfig(voxel_size=0.05))
    far = torch.tensor([[50_000.0, -30_000.0, 10.0]])
    for _ in range(200):
        voxels.insert(Cloud(far, torch.full((1, 3), 7).byte(), torch.ones(1)), at(5e4))
    assert torch.equal(voxels.cloud().points, far)
    assert voxels.cloud().colours.tolist() == [[7, 7, 7]]


def test_what_is_out_of_reach_is_left_out_and_told():
    voxels = VoxelMap(MapConfig(voxel_size=0.001))
    assert voxels.reach == pytest.approx(1048.576)
    voxels.insert(random_cloud(10, centre=(1000.0, 0, 0)), at(1000))
    assert len(voxels) == 10
    assert not voxels.beyond
    voxels.insert(random_cloud(10, centre=(0, 0, -1100.0)), at(0))
    assert len(voxels) == 10
    assert voxels.beyond
    unknown = random_cloud(3)
    unknown.points[1] = torch.nan
    voxels.insert(unknown, at(0))
    assert len(voxels) == 12
    assert not voxels.beyond


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        *((VoxelMap, "_link", call) for call in range(8)),
        *((torch.Tensor, "__getitem__", call) for call in range(0, 320, 8)),
    ],
)
def test_an_insertion_that_finds_no_room_costs_its_points_and_no_others(monkeypatch, owner, name, call):
    """A full GPU may fail anywhere in it."""
    voxels = VoxelMap(MapConfig(voxel_size=0.1, max_voxels=300))
    clouds = [random_cloud(120, seed) for seed in range(7)]
    calls, whole = [], getattr(owner, name)

    def failing(*arguments):
        calls.append(name)
        if len(calls) - 1 == call:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(*arguments)

    for i, cloud in enumerate(clouds):
        with monkeypatch.context() as full, contextlib.suppress(torch.cuda.OutOfMemoryError):
            if 0 < i < 6:
                full.setattr(owner, name, failing)
            voxels.insert(cloud, at(0))
    assert len(calls) > call, "it failed"
    kept = as_dict(voxels.cloud(), 0.1)  # no voxel is in it twice
    assert 250 < len(kept) <= 300
    known = plain_means(clouds, 0.1)
    for key, value in kept.items():
        if np.allclose(value[:3], known[key][:3], atol=1e-4):
            continue
        parts = [plain_means([cloud], 0.1).get(key) for cloud in clouds]  # it was seen by several
        assert sum(part is not None for part in parts) > 1
    found = voxels._find(voxels._keys[: len(voxels)])
    assert torch.equal(found, torch.arange(len(voxels))), "each is found where it is"


def test_a_cloud_of_the_map_stays_as_it_was():
    voxels = VoxelMap(MapConfig(voxel_size=1.0, max_voxels=100))
    voxels.insert(random_cloud(50), at(0))
    cloud = voxels.cloud()
    before = [values.clone() for values in (cloud.points, cloud.colours, cloud.confidence)]
    voxels.insert(random_cloud(50, seed=1), at(0))
    assert all(map(torch.equal, (cloud.points, cloud.colours, cloud.confidence), before))
