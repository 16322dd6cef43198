"""What is said of a camera that is mounted differently than in training."""

from __future__ import annotations

import numpy as np
import pytest

from loger_ros.model.carried import Carried

TAUGHT = Carried(height=(0.2, 1.2), pitch=(0, 20), forward=(0, 0.15))


def mounting(pitch: float = 10, forward: float = 0.1, heading: float = 0) -> np.ndarray:
    """Degrees down, metres ahead as it looks, degrees to the left → T_base_camera."""
    down, left = np.radians([pitch, heading])
    view = np.array([np.cos(left) * np.cos(down), np.sin(left) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(left), -np.cos(left), 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(view, right), view], 1)
    pose[:2, 3] = forward * view[:2] / np.linalg.norm(view[:2])
    return pose


@pytest.mark.parametrize(
    ("height", "mounted", "said"),
    [
        (0.4, {}, ""),
        (1.25, {"pitch": 21.9, "forward": -0.01}, ""),  # a little outside does not matter
        (
            1.5,
            {},
            "it is 1.5 m above the ground (stream.unit), but the checkpoint was trained with 0.2 to",
        ),
        (0.4, {"pitch": -15}, "it is -15 degrees down, but the checkpoint was trained with 0 to 20"),
        (
            0.4,
            {"forward": 0.5},
            "it is 0.5 m ahead of the base, but the checkpoint was trained with 0 to",
        ),
        (0.4, {"forward": 0.5, "heading": 90}, "it is 0.5 m ahead"),
        (0.4, {"heading": 180}, ""),
    ],
)
def test_what_is_said(height: float, mounted: dict[str, float], said: str) -> None:
    sentence = TAUGHT.unlike(height, mounting(**mounted))
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)


def test_all_at_once() -> None:
    sentence = TAUGHT.unlike(3, mounting(pitch=60, forward=1))
    assert sentence.count("the checkpoint was trained with") == 3
    assert not Carried().unlike(3, mounting(pitch=60, forward=1))


def test_a_camera_that_looks_straight_down() -> None:
    assert "90 degrees down" in TAUGHT.unlike(0.4, mounting(pitch=90))


@pytest.mark.parametrize(
    ("unit", "above", "doubtful"),
    [
        (0.3, 0.3, False),
        (0.6, 0.1, False),  # a base far above the ground
        (0.25, 0.4, True),  # below the base
        (1, 0, False),  # the base is where the camera is: it tells nothing
        (1, -0.1, False),
    ],
)
def test_a_unit_that_is_not_the_height_of_the_camera(unit: float, above: float, doubtful: bool) -> None:
    mounted = mounting()
    mounted[2, 3] = above
    said = TAUGHT.doubtful(unit, mounted)
    assert bool(said) == doubtful
    if doubtful:
        assert f"{unit:g} m above the ground" in said
        assert f"{above:g} m above frames.base (or frames.level); set stream.unit (--unit) to" in said
    in_any_unit = Carried(pitch=(0, 20))
    assert not in_any_unit.doubtful(unit, mounted)


def raised(above: float, **mounted: float) -> np.ndarray:
    pose = mounting(**mounted)
    pose[2, 3] = above
    return pose


def test_the_unit_is_the_height_of_the_camera_if_that_is_known() -> None:
    assert TAUGHT.unit_at(raised(0.3)) == 0.3
    assert TAUGHT.unit_at(raised(1.0)) == 1.0
    assert Carried(pitch=(0, 20)).unit_at(raised(0.3)) is None, "its unit is another one"
    assert TAUGHT.unit_at(None) is None
    low = raised(0.05, pitch=60)
    assert len(TAUGHT.doubts(0.0, low)) == 1
    assert "it is 0.05 m above the ground" in TAUGHT.doubts(0.0, low)[0]
    assert TAUGHT.doubts(0.0, low) == TAUGHT.doubts(0.05, low)


@pytest.mark.parametrize("above", [0.0, 1e-17, 0.009, -0.2, float("nan"), float("inf")])
def test_a_camera_at_its_base_or_below_does_not_tell_the_unit(above: float) -> None:
    """The rounding of a few rotations must not become a scale of 1e-17."""
    assert TAUGHT.unit_at(raised(above)) is None
    (said,) = TAUGHT.doubts(0.0, raised(above))
    assert said.startswith("lengths are probably not metres: ")
    assert "set stream.unit (--unit)" in said
    assert not TAUGHT.doubts(0.4, raised(0.0)), "somebody said it"
    assert not Carried(pitch=(0, 20)).doubts(0.0, raised(above)), "its unit is another one"


def test_a_mounting_that_the_stream_does_not_use_does_not_tell_the_unit() -> None:
    (said,) = TAUGHT.doubts(0.0, raised(0.4), in_use=False)
    assert said.startswith("lengths are probably not metres: ")
    assert "camera_info" in said
    assert not TAUGHT.doubts(0.4, raised(0.4), in_use=False)
    steep = TAUGHT.doubts(0.0, raised(0.4, pitch=60), in_use=False)[0]
    assert "60 degrees down" in steep
    assert "above the ground (stream.unit)" not in steep


def test_as_a_checkpoint_keeps_it() -> None:
    assert Carried.from_dict(TAUGHT.to_dict()) == TAUGHT
    assert Carried.from_dict({}) == Carried()
    assert Carried().to_dict() == {}
