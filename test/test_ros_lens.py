"""What one camera's stream makes of camera_info, and of a lens that nobody knows or that changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_rig import LENS, SHORT, camera_stream, frame, run
from fake_model import FakeModel

pytest.importorskip("rclpy", reason="needs ROS 2")

from sensor_msgs.msg import CameraInfo

from loger_ros.config import MapConfig, StreamConfig
from loger_ros.mapping.journal import read_journal
from loger_ros.ros.camera_info import camera_of, is_rectified
from loger_ros.ros.config import InputConfig, NodeConfig
from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.stream import Reconstructor
from loger_ros.types import Camera


def test_a_lens_that_becomes_known_or_another_counts_from_then_on(tmp_path: Path) -> None:
    config = NodeConfig(stream=StreamConfig(**SHORT, field_of_view=70), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config, journal=tmp_path / "journal.tum")
    assert run(camera, 0, 1, 2) == {"camera_unknown": 1}
    assert "publish them" in camera.lens_unknown
    camera.intake.camera = LENS
    assert run(camera, 3, 4) == {"camera_unknown": 1, "camera_changed": 1}
    assert not camera.lens_unknown
    camera.intake.camera = Camera(8, 6, LENS.matrix + 0.001)  # the same again
    assert run(camera, 5)["camera_changed"] == 1
    bent = Camera(8, 6, LENS.matrix, (0.1, 0.0, 0.0, 0.0))
    camera.intake.camera = bent
    assert run(camera, 6)["camera_changed"] == 2
    assert camera._recon._state.prepare._source.distortion == bent.distortion
    camera.finish(in_a_hurry=False)
    camera.close()
    segments = read_journal(tmp_path / "journal.tum").segments
    assert segments == (0, 0, 0, 1, 1, 1, 2)


def test_images_that_camera_info_does_not_fit_are_taken_as_they_are_and_the_warning_stays() -> None:
    config = NodeConfig(stream=StreamConfig(**SHORT, field_of_view=70), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config)
    camera.intake.camera = LENS
    run(camera, 0, 1)
    assert run(camera, 2, 3, size=(4, 6))["camera_info_unusable"] == 1
    assert "does not fit" in camera.lens_unknown
    assert camera.statistics.counts["frame"] == 4


def test_a_depth_image_is_not_sent_as_if_another_lens_had_seen_it() -> None:
    """What a change of the images' size ends comes after the new lens is known."""
    stream = StreamConfig(chunk_size=4, overlap=1, resolution="native", provisional_every=0)
    camera = camera_stream(config=NodeConfig(stream=stream, map=MapConfig(max_voxels=16)))
    sizes: list[tuple[tuple[int, int], ...]] = []
    camera.outputs.pictures = lambda update, name, lens, level: sizes.append(
        (tuple(update.images.shape[2:0:-1]), (lens.width, lens.height))
    )
    camera.intake.camera = LENS
    run(camera, 0, 1, 2, 3, 4)
    run(camera, *range(5, 10), size=(16, 12))
    assert sizes == [((8, 6), (8, 6)), ((16, 12), (16, 12))]


def test_images_that_wait_keep_the_lens_that_they_came_with() -> None:
    """A new camera_info is heard long before the images that came before it have their turn."""
    config = NodeConfig(stream=StreamConfig(**SHORT, field_of_view=70), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config)
    for number, lens in enumerate((LENS, Camera(4, 6, LENS.matrix))):
        for i in range(3):
            camera.intake.camera_info(info(lens))
            shown = frame(3 * number + i, (lens.width, lens.height))
            camera.intake.image(image_message(header(shown.stamp, "camera"), shown.image, "rgb8"))
        camera.intake.camera_info(info(lens))
    while camera.step():
        pass
    assert dict(camera.events.counts) == {"size_changed": 1}
    assert camera.statistics.counts["frame"] == 6
    assert (camera._camera.width, camera._camera.height) == (4, 6)


def test_a_lens_that_could_not_be_taken_up_is_with_the_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    config = NodeConfig(stream=StreamConfig(**SHORT, field_of_view=70), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config)
    run(camera, 0, 1)
    camera.intake.camera = LENS
    with monkeypatch.context() as patch:
        patch.setattr(Reconstructor, "flush", lambda self: 1 / 0)
        assert run(camera, 2)["frame_failed"] == 1
    assert camera.lens_unknown
    run(camera, 3)
    assert not camera.lens_unknown
    assert camera._recon.camera is not None


def test_undistortion_that_is_switched_off_is_told_where_it_is_needed() -> None:
    config = NodeConfig(
        stream=StreamConfig(**SHORT, field_of_view=70),
        map=MapConfig(max_voxels=16),
        input=InputConfig(undistort=False),
    )
    camera = camera_stream(config=config)
    camera.intake.camera = LENS
    run(camera, 0, 1)
    assert "input.undistort is false" in camera.lens_unknown


def info(camera: Camera, **changes: Any) -> CameraInfo:
    message = camera_info_message(header(0, "camera"), camera)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("lens", "reason"),
    [
        (Camera(8, 6, LENS.matrix, (0.1,) * 5, "fov"), "distortion model 'fov' is unknown"),
        (Camera(8, 6, LENS.matrix, (0.1,) * 3), "0, 4, 5, 8, 12, 14 coefficients, not 3"),
        (Camera(8, 6, LENS.matrix, (0.1,) * 5, "equidistant"), "4 coefficients, not 5"),
    ],
)
def test_a_lens_that_nobody_knows_is_told_and_images_are_taken_as_they_are(lens: Camera, reason: str) -> None:
    camera = camera_stream()
    camera.intake.camera_info(info(lens))
    (event,) = camera.events.recent
    assert event.name == "camera_info_unusable"
    assert reason in event.message
    assert camera.intake.camera is None
    with pytest.raises(ValueError, match=reason):
        Reconstructor(FakeModel(), camera=lens)


def test_a_name_that_nobody_knows_does_no_harm_without_distortion() -> None:
    lens = camera_of(info(Camera(8, 6, LENS.matrix, (0.0,) * 5, "none")))
    assert lens is not None
    stream = Reconstructor(FakeModel(), 2, 1, resolution=(8, 6), field_of_view=70, camera=lens)
    assert stream.push(frame(0)) == []


def test_a_part_of_the_pixels_or_several_in_one_have_the_same_rays() -> None:
    """The centre of pixel 0 of what is sent lies at that of the pixels it was made of."""
    whole = Camera(80, 60, np.array([[50.0, 0, 39.5], [0, 55, 29.5], [0, 0, 1]]))
    message = info(whole, binning_x=2, binning_y=2)
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 10, 20, 40, 30
    camera = camera_of(message)
    assert camera is not None
    assert (camera.width, camera.height) == (20, 15)
    for pixel in (np.array([0.0, 0, 1]), np.array([7.0, 11, 1])):
        before = np.array([2 * pixel[0] + 0.5 + 10, 2 * pixel[1] + 0.5 + 20, 1])
        rays = np.linalg.inv(camera.matrix) @ pixel, np.linalg.inv(whole.matrix) @ before
        assert np.allclose(*rays)


def test_of_straightened_images_the_straightened_camera_counts() -> None:
    message = info(Camera(8, 6, LENS.matrix, (0.1,) * 5))
    message.p = np.hstack([2 * LENS.matrix, [[7.0], [0], [0]]]).reshape(-1)
    camera = camera_of(message, rectified=True)
    assert camera is not None
    assert np.array_equal(camera.matrix, 2 * LENS.matrix)
    assert not camera.distortion


@pytest.mark.parametrize(
    ("focal", "centre", "reason"),
    [
        (
            1e7,
            (320, 240),
            "a focal length of 1e+07 x 1e+07 pixels",
        ),  # a look at its view would take all memory
        (0.66, (0.5, 0.5), "a focal length of 0.66 x 0.66 pixels"),  # in image widths
        (3000, (1920, 1440), "a principal point at 1920, 1440"),  # of 3840x2880
        (500, (320, -5000), "a principal point at 320, -5000"),
        (float("nan"), (320, 240), "not finite"),
    ],
)
def test_numbers_that_no_lens_has_are_refused(focal: float, centre: tuple[float, float], reason: str) -> None:
    matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    with pytest.raises(ValueError, match=re.escape(reason)):
        camera_of(info(Camera(640, 480, matrix)))


def test_a_part_of_a_large_sensor_may_look_past_its_own_middle() -> None:
    assert camera_of(info(Camera(640, 480, np.array([[900.0, 0, -400], [0, 900, 700], [0, 0, 1]]))))


@pytest.mark.parametrize(
    ("topic", "straight"),
    [
        ("/image_rect", True),
        ("/left/image_rect_color/compressed", True),
        ("/infra1/image_rect_raw", True),
        ("/camera/image_rectified", True),
        ("/image_rectifier/image_raw", False),
        ("/camera/image_raw", False),
    ],
)
def test_what_is_straightened_is_known_by_its_name(topic: str, straight: bool) -> None:
    assert is_rectified(topic) == straight
    assert is_rectified(topic, "always")
    assert not is_rectified(topic, "never")


def test_straightened_images_are_not_straightened_again() -> None:
    camera = camera_stream(config=NodeConfig(input=InputConfig(camera_info_timeout=0)))
    camera.intake.rectified = True
    message = info(Camera(8, 6, LENS.matrix, (0.1,) * 5))
    message.p = np.hstack([2 * LENS.matrix, np.zeros((3, 1))]).reshape(-1)
    camera.intake.camera_info(message)
    assert camera.intake.camera is not None
    assert not camera.intake.camera.distortion


def test_camera_info_is_wanted_until_it_came_and_again_for_other_images_and_after_a_reset() -> None:
    camera = camera_stream(config=NodeConfig(input=InputConfig(camera_info_timeout=0)))
    intake = camera.intake

    def show(number: int, size: tuple[int, int]) -> bool:
        shown = frame(number, size)
        intake.image(image_message(header(shown.stamp, "camera"), shown.image, "rgb8"))
        return intake.wants_camera_info

    assert intake.wants_camera_info
    intake.camera_info(info(LENS))
    assert not show(0, (8, 6))
    assert show(1, (4, 3))
    intake.camera_info(info(Camera(4, 3, LENS.matrix)))
    assert not show(2, (4, 3))
    camera.reset()
    assert show(3, (4, 3))
    intake.camera_info(info(Camera(4, 3, LENS.matrix)))
    assert not intake.wants_camera_info
    camera.reset()
    intake.camera_info(info(Camera(16, 9, LENS.matrix)))
    assert show(4, (8, 6)), "camera_info of another kind of image may be mended"
    intake.camera_info(info(LENS))
    assert not intake.wants_camera_info
    for number in range(5, 40):
        show(number, (8, number))
        intake.camera_info(info(LENS))
    assert len(intake._cameras) <= 8
