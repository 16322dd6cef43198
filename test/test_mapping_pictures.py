"""Pictures of clouds: what hides what, where things are drawn, and that unusual input does not break them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loger_ros.geometry import BODY_FROM_OPTICAL, exp_rotation
from loger_ros.mapping import render as renderer
from loger_ros.mapping.pictures import (
    ESTIMATE,
    TRUTH,
    Scene,
    Track,
    along_the_path,
    from_above,
    from_the_side,
    levelling,
)
from loger_ros.mapping.render import PAPER, Line, View, look_at, render, shading

AHEAD = View(np.eye(4), 41, 31, 40.0)
RED, GREEN = (200, 0, 0), (0, 200, 0)


def drawn(points: list, colours: list, view: View = AHEAD, size: float = 0.2, **more: object) -> np.ndarray:
    return render(np.array(points, float).reshape(-1, 3), np.array(colours, np.uint8), view, size, **more)


def test_a_point_is_drawn_where_a_camera_sees_it() -> None:
    picture = drawn([[0.5, -0.25, 2.0]], [RED], size=0.01)
    row, column = np.argwhere((picture != PAPER).any(-1)).mean(0)
    assert (column, row) == pytest.approx((20 + 40 * 0.25, 15 - 40 * 0.125), abs=0.6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_point_hides_the_farther(order: tuple[int, int]) -> None:
    points, colours = [[0, 0, 2.0], [0, 0, 3.0]], [RED, GREEN]
    picture = drawn([points[i] for i in order], [colours[i] for i in order])
    assert picture[15, 20].tolist() == list(RED)


def test_what_is_behind_or_unknown_is_not_drawn() -> None:
    picture = drawn([[0, 0, -2.0], [np.nan, 0, 1], [np.inf, 0, 1], [0, 0, np.inf], [0, 0, 0]], [RED] * 5)
    assert (picture == PAPER).all()


def test_no_points_give_plain_paper() -> None:
    picture = render(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), AHEAD, 0.1)
    assert picture.shape == (31, 41, 3)
    assert (picture == PAPER).all()


def test_near_points_are_larger_in_perspective_and_equal_in_parallel() -> None:
    def area(view: View, z: float) -> int:
        return int((drawn([[0, 0, z]], [RED], view) != PAPER).any(-1).sum())

    parallel = View(np.eye(4), 41, 31, 40.0, parallel=True)
    assert area(AHEAD, 1.0) > 2 * area(AHEAD, 2.0)
    assert area(parallel, 1.0) == area(parallel, 2.0) > 0


def test_the_size_of_a_block_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points, colours = rng.normal((0, 0, 3), 1, (500, 3)), rng.integers(0, 256, (500, 3), dtype=np.uint8)
    whole = render(points, colours, AHEAD, 0.1)
    monkeypatch.setattr(renderer, "BLOCK", 100)
    assert np.array_equal(render(points, colours, AHEAD, 0.1), whole)


def test_a_hidden_line_shines_through() -> None:
    wall = [[x / 10, y / 10, 2.0] for x in range(-15, 16) for y in range(-10, 11)]
    before, behind = (Line(np.array([[-1, 0, z], [1.0, 0, z]]), (0, 0, 250)) for z in (1.5, 2.5))
    blue = [drawn(wall, [RED] * len(wall), lines=[line])[15, 20, 2] for line in (before, behind)]
    bare = drawn(wall, [RED] * len(wall))[15, 20, 2]
    assert blue[0] == 250
    assert bare == 0 < blue[1] < 100


def test_edges_of_depth_are_darkened_on_the_far_side_only() -> None:
    surface = np.full((20, 20), 4.0)
    assert (shading(surface) == 1).all()
    surface[:, :10] = 2.0
    light = shading(surface)
    assert (light[:, :10] == 1).all()
    assert (light[:, 10] < 0.8).all()
    assert (light[:, 13:] == 1).all()


def test_look_at_has_its_target_in_the_middle_and_stands_upright() -> None:
    up = np.array([0.0, 0, 1])
    view = look_at(np.array([3.0, 1, 2]), np.array([0.0, 0, 1]), up, 101, 51, hfov=60)
    pixels, depth = view.project(np.array([[0.0, 0, 1], [0, 0, 1.2]]))
    assert pixels[0] == pytest.approx([50, 25])
    assert depth[0] == pytest.approx(np.sqrt(11))
    assert pixels[1, 1] < pixels[0, 1]
    assert np.linalg.det(view.T_map_view[:3, :3]) == pytest.approx(1)


def room(ceiling: float = 2.5) -> Scene:
    """A floor of 8 m by 4 m, its ceiling, and two paths through it; the true one is 0.5 m to the left."""
    x, y = (axis.reshape(-1) for axis in np.meshgrid(np.arange(0, 8, 0.1), np.arange(0, 4, 0.1)))
    floor, top = (np.stack([x, y, np.full_like(x, z)], 1) for z in (0.0, ceiling))
    colours = np.repeat(np.array([[90, 140, 90], [40, 40, 40]], np.uint8), len(x), 0)
    poses = np.tile(np.eye(4), (50, 1, 1))
    poses[:, :3, :3] = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]).T  # looks along x, upright
    poses[:, :3, 3] = np.stack([np.linspace(1, 7, 50), np.full(50, 1.5), np.full(50, 0.4)], 1)
    moved = poses.copy()
    moved[:, 1, 3] += 0.5
    tracks = [Track("estimate", poses, ESTIMATE), Track("truth", moved, TRUTH)]
    return Scene(np.concatenate([floor, top]), colours, tracks, 0.15)


def nearly(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(np.asarray(picture).astype(int) - colour) < 12).all(-1)


def test_the_ceiling_is_cut_away_and_the_floor_stays() -> None:
    scene = room()
    assert len(scene.without_ceiling().points) == len(scene.points) // 2
    assert (scene.without_ceiling().points[:, 2] == 0).all()


def test_the_scale_is_in_the_units_of_the_map() -> None:
    metres = np.asarray(from_above(room(), "", width=600))
    others = np.asarray(from_above(replace(room(), unit="map units"), "", width=600))
    assert (metres[-40:] != others[-40:]).any()
    assert np.array_equal(metres[:-40], others[:-40])


def test_a_map_below_the_camera_has_no_ceiling() -> None:
    scene = room(ceiling=0.0)
    for height in (0.0, 5.0):
        poses = scene.tracks[0].T_map_camera.copy()
        poses[:, 2, 3] = height
        lifted = replace(scene, tracks=[Track("estimate", poses, ESTIMATE)])
        assert lifted.without_ceiling() is lifted


def test_strays_go_and_company_stays() -> None:
    scene = room()
    far = np.array([[100.0, 100, 1], [-50, 3, 1]])
    strayed = replace(
        scene,
        points=np.concatenate([scene.points, far]),
        colours=np.concatenate([scene.colours, np.zeros((2, 3), np.uint8)]),
    )
    tidy = strayed.without_strays()
    assert np.array_equal(tidy.points, scene.points)
    assert np.array_equal(tidy.colours, scene.colours)
    assert len(replace(scene, points=far, colours=far.astype(np.uint8)).without_strays().points) == 0


def test_the_chart_keeps_left_and_right_and_its_scale_is_true() -> None:
    picture = np.asarray(from_above(room(), "title", width=600))
    below_head = picture[80:]
    made, true = (np.argwhere(nearly(below_head, colour)) for colour in (ESTIMATE, TRUTH))
    assert np.median(true[:, 0]) < np.median(made[:, 0])  # for a path to the right, left is up
    bar = (picture[-23:-17].min(0).max(1) < 120).nonzero()[0]
    run = np.split(bar, np.flatnonzero(np.diff(bar) > 3) + 1)[0]  # without the text after it
    pixels_per_metre = np.ptp(made[:, 1]) / 6
    assert (run[-1] - run[0]) / pixels_per_metre == pytest.approx(2.0, rel=0.1)  # of 1, 2, 5 m


@pytest.mark.parametrize("picture", [from_the_side, along_the_path])
def test_a_view_shows_the_floor_and_both_ways(picture: object) -> None:
    image = np.asarray(picture(room(), width=300, height=200))
    assert image.shape == (200, 300, 3)
    assert nearly(image, (90, 140, 90)).mean() > 0.1
    for colour in (ESTIMATE, TRUTH):
        assert (np.abs(image.astype(int) - colour) < 60).all(-1).sum() > 20


def test_pictures_of_an_empty_map_and_of_a_camera_that_stood_still() -> None:
    scene = room()
    still = Track("estimate", np.tile(scene.tracks[0].T_map_camera[:1], (3, 1, 1)), ESTIMATE)
    for poor in (
        Scene(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), scene.tracks, 0.1),
        Scene(scene.points, scene.colours, [still], 0.1),
        Scene(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), [still], 0.1),
    ):
        assert from_above(poor, "", width=200).width == 200
        assert from_the_side(poor, 60, 40).size == (60, 40)
        assert along_the_path(poor, 60, 40).size == (60, 40)


def test_levelling_turns_a_camera_map_upright() -> None:
    poses = np.tile(np.eye(4), (10, 1, 1))  # optical axes: y down, z ahead
    poses[:, :3, 3] = [[0, 0, i] for i in range(10)]
    level = levelling(poses)
    assert level[:3, :3] @ [0, 0, 1] == pytest.approx([1, 0, 0])
    assert level[:3, :3] @ [0, -1, 0] == pytest.approx([0, 0, 1])
    assert np.linalg.det(level) == pytest.approx(1)


@pytest.mark.parametrize("turn", [0.0, 0.02, 0.8, 3.0])
def test_a_camera_that_looks_down_drives_on_level_ground(turn: float) -> None:
    """Its own up leans by as much as it looks down; the axis it turns about does not."""
    yaw = np.linspace(0, turn, 50)[:, None] * [0, 0, 1]
    poses = np.tile(np.eye(4), (50, 1, 1))
    poses[:, :3, :3] = exp_rotation(yaw) @ exp_rotation(np.array([0, 0.3, 0])) @ BODY_FROM_OPTICAL[:3, :3]
    lean = np.degrees(np.arccos(levelling(poses)[:3, :3] @ [0, 0, 1] @ [0, 0, 1]))
    assert lean == pytest.approx(np.degrees(0.3), abs=1) if turn < 0.1 else lean < 3
    moved = np.tile(np.eye(4), (50, 1, 1))
    moved[:, :3, :3] = exp_rotation(np.array([1.0, -0.4, 0.3])) @ poses[:, :3, :3]
    assert levelling(moved)[:3, :3] @ moved[0, :3, 2] == pytest.approx(
        levelling(poses)[:3, :3] @ poses[0, :3, 2]
    ), "in any map"


@pytest.mark.parametrize("turn", [0.0, 0.8])
def test_a_camera_that_nods_more_than_it_turns_stays_upright(turn: float) -> None:
    """The axis it turns about says nothing then."""
    yaw = np.linspace(0, turn, 50)[:, None] * [0, 0, 1]
    pitch = 0.35 * np.sin(np.arange(50))[:, None] * [0, 1, 0]
    poses = np.tile(np.eye(4), (50, 1, 1))
    poses[:, :3, :3] = exp_rotation(yaw) @ exp_rotation(pitch) @ BODY_FROM_OPTICAL[:3, :3]
    assert levelling(poses)[2, 2] > np.cos(np.radians(3))
