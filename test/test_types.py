"""What the basic types refuse to be made of."""

from __future__ import annotations

import numpy as np
import pytest

from loger_ros.types import Camera, Frame

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize("stamp", [0.1, 1.0, np.float64(2), "3", None])
def test_a_stamp_is_whole_nanoseconds(stamp: object) -> None:
    with pytest.raises(TypeError, match=r"whole number of nanoseconds.*round\(seconds \* 1e9\)"):
        Frame(stamp, IMAGE)
    assert Frame(np.int64(5), IMAGE).stamp == Frame(5, IMAGE).stamp
    assert type(Frame(np.uint64(5), IMAGE).stamp) is int, "5 less 6 would be 18 billion seconds"


def test_a_camera_takes_lists() -> None:
    camera = Camera(6, 4, [[5, 0, 2.5], [0, 5, 1.5], [0, 0, 1]], T_base_camera=np.eye(4).tolist())
    assert camera.matrix.dtype == camera.T_base_camera.dtype == np.float64
    assert camera.matrix[0, 2] == 2.5
    with pytest.raises(ValueError, match=r"matrix of a camera must be 3x3, but has shape \(4,\)"):
        Camera(6, 4, [5, 5, 2.5, 1.5])
    with pytest.raises(ValueError, match="T_base_camera of a camera must be 4x4"):
        Camera(6, 4, np.eye(3), T_base_camera=np.eye(3))
