"""One camera's stream in the node: what it makes of camera_info, of frames of no use and of odd clocks."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from fake_model import FakeModel

pytest.importorskip("rclpy", reason="needs ROS 2")

from networks import small_model
from rclpy.clock import ClockType, ROSClock
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from loger_ros.config import ConfigError, MapConfig, StreamConfig
from loger_ros.events import EventLog
from loger_ros.mapping.journal import read_journal
from loger_ros.ros.camera_info import camera_of
from loger_ros.ros.config import FramesConfig, InputConfig, NodeConfig
from loger_ros.ros.messages import camera_info_message, header, image_message
from loger_ros.ros.network import WatchedModel
from loger_ros.ros.outputs import Outputs, ThinnedWay
from loger_ros.ros.statistics import Statistics
from loger_ros.ros.stream import CameraStream
from loger_ros.ros.time_jumps import TimeJumps
from loger_ros.ros.transforms import Mounting, mount
from loger_ros.stream import Reconstructor
from loger_ros.types import Camera, Frame

LENS = Camera(8, 6, np.array([[5.0, 0, 3.5], [0, 5, 2.5], [0, 0, 1]]))
SHORT = {"chunk_size": 2, "overlap": 1, "resolution": "8x6"}


def camera_stream(**others: Any) -> Any:
    """With a network whose motion is known, and nobody who listens."""
    silent = {
        name: lambda *_, **__: None for name in ("forget_way", "motion", "pose", "path", "pictures", "taken")
    }
    values: dict[str, Any] = {
        "config": NodeConfig(map=MapConfig(max_voxels=16)),
        "outputs": SimpleNamespace(**silent, points_wanted=False, path_due=False, map_due=lambda: False),
        "journal": None,
        "mounting": lambda frame: Mounting(np.eye(4), np.eye(4)),
        "too_late": lambda stamp: False,
        "left_behind": lambda stamp: False,
        **others,
    }
    config, outputs = values.pop("config"), values.pop("outputs")
    events = EventLog(lambda message: None)
    return CameraStream(
        "", config, FakeModel(), events, Statistics(), outputs, now=lambda: 0, wake=lambda: None, **values
    )


def test_images_that_wait_at_a_reset_are_still_turned_as_the_camera_is_mounted() -> None:
    """And the next image asks anew how that is, until somebody knows."""
    mounts = [mount((0, 0, 0.5), (0, pitch, 0)) for pitch in (0.1, 0.3)]
    told: list[Mounting | None] = [Mounting(m, m) for m in mounts]
    told.insert(1, None)
    camera = camera_stream(mounting=lambda frame: told.pop(0))
    camera.intake.camera = Camera(8, 6, np.diag([5.0, 5.0, 1.0]))
    waiting = Frame(0, np.zeros((6, 8, 3), np.uint8))
    assert camera._mounted("camera")
    camera.reset()
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[0])
    assert not camera._mounted("camera"), "it may have been mounted anew, and nobody knows yet"
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[0])
    assert camera._mounted("camera")
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[1])
    assert camera._mounted("camera")
    assert not told


def frame(number: int, size: tuple[int, int] = (8, 6)) -> Frame:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Frame(number * 100_000_000, pixels)


def run(camera: CameraStream, *numbers: int, size: tuple[int, int] = (8, 6)) -> dict[str, int]:
    """→ what happened so far."""
    for number in numbers:
        camera.queue.put(frame(number, size))
        camera.step()
    return dict(camera.events.counts)


# ---- camera_info ----------------------------------------------------------------------------------------


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
    assert camera._recon._prepare._source.distortion == bent.distortion
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


# ---- images ---------------------------------------------------------------------------------------------


def test_an_image_whose_place_is_not_known_does_not_decide_which_camera_it_is() -> None:
    camera = camera_stream(
        config=NodeConfig(input=InputConfig(undistort=False)),
        mounting=lambda name: Mounting(np.eye(4), np.eye(4)) if name == "camera" else None,
    )

    def send(stamp: int, name: str) -> dict[str, int]:
        camera.intake.image(image_message(header(stamp, name), frame(0).image, "rgb8"))
        return dict(camera.statistics.dropped)

    assert send(1, "misspelt") == {"no_extrinsic": 1}
    assert send(2, "camera") == {"no_extrinsic": 1}
    assert send(3, "other") == {"no_extrinsic": 1, "other_camera": 1}
    camera.reset()
    assert camera.statistics.dropped["reset"] == 1, "the one that waited"
    assert send(4, "other")["no_extrinsic"] == 2, "it may have another name now"


def test_where_several_cameras_are_no_frame_is_that_of_all() -> None:
    two = InputConfig(cameras=("front", "rear"))
    with pytest.raises(ConfigError, match=r"frames\.camera is 'lens'; it must be empty with several"):
        NodeConfig(input=two, frames=FramesConfig(camera="lens"))
    NodeConfig(input=two)


def test_our_correction_is_not_for_the_odometry_of_others() -> None:
    with pytest.raises(ConfigError, match="must be false where publish_odom_base is"):
        FramesConfig(publish_odom_base=False)
    FramesConfig(publish_odom_base=False, publish_map_odom=False)


# ---- clocks, ends and files -----------------------------------------------------------------------------


def test_what_is_too_late_goes_to_the_journal_alone(tmp_path: Path) -> None:
    sent: list[int] = []
    config = NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16))
    camera = camera_stream(
        config=config,
        journal=tmp_path / "journal.tum",
        too_late=lambda stamp: stamp == frame(2).stamp,
    )
    camera.outputs.motion = lambda motion: sent.append(motion.stamp)
    assert run(camera, 0, 1, 2, 3) == {"clock_jumped": 1}
    camera.close()
    assert sent == [frame(i).stamp for i in (0, 1, 3)]
    assert list(read_journal(tmp_path / "journal.tum").stamps) == [frame(i).stamp for i in (0, 1, 2)]


def test_a_map_of_a_time_that_the_clock_has_left_is_kept_back() -> None:
    left: set[int] = set()
    sent: list[int] = []
    camera = camera_stream(
        config=NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16, interval=0.0)),
        left_behind=left.__contains__,
    )
    camera.outputs.map_points = lambda cloud, place, stamp: sent.append(stamp)
    run(camera, 0, 1, 2)
    camera.outputs.map_due = lambda: True
    left.add(frame(1).stamp)
    camera.step()
    assert camera._newest in left
    assert not sent
    run(camera, 3)
    assert sent == [frame(2).stamp]


def test_a_way_that_begins_anew_has_no_path_that_was_withheld() -> None:
    outputs = Outputs.__new__(Outputs)
    outputs._config = NodeConfig()
    outputs.map_frame = "map"
    outputs._way = ThinnedWay(10, "map")
    outputs._path = SimpleNamespace(get_subscription_count=lambda: 1)
    outputs._path_due = float("inf")
    outputs._way.add(1, np.eye(4))
    outputs.path()
    assert outputs._path_withheld
    outputs.forget_way()
    assert not outputs.path_due


def test_images_that_still_wait_at_the_end_are_told() -> None:
    camera = camera_stream(config=NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16)))
    run(camera, 0, 1)
    camera.queue.put(frame(2))
    camera.queue.put(frame(3))
    camera.finish(in_a_hurry=False)
    assert camera.statistics.dropped["end"] == 2
    assert "2 images that waited" in camera.events.recent[-1].message


def test_a_stream_that_cannot_be_made_leaves_its_journal_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.tum"
    with monkeypatch.context() as patched:
        patched.setattr("loger_ros.ros.stream.VoxelMap", Mock(side_effect=MemoryError("no room")))
        with pytest.raises(MemoryError):
            camera_stream(journal=journal)
    with monkeypatch.context() as patched:
        patched.setattr("loger_ros.ros.recording.Journal", Mock(side_effect=OSError("no disk")))
        with pytest.raises(OSError, match="no disk"):
            camera_stream(journal=journal)
    camera_stream(journal=journal).close()


def test_a_journal_that_cannot_be_renamed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("not here")

    config = NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config, journal=tmp_path / "journal.tum")
    camera._recording._limit = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        assert set(run(camera, *range(6))) == {"journal_not_rotated"}
    camera.close()
    assert len(read_journal(tmp_path / "journal.tum")) == 5


def test_a_last_chunk_that_is_given_up_is_told() -> None:
    camera = camera_stream(config=NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16)))
    run(camera, 0, 1)
    camera.finish(in_a_hurry=True)
    assert not camera.events.counts, "every frame was in a complete chunk"
    longer = StreamConfig(chunk_size=4, overlap=1, resolution="8x6")
    camera = camera_stream(config=NodeConfig(stream=longer, map=MapConfig(max_voxels=16)))
    run(camera, 0, 1, 2)
    camera.finish(in_a_hurry=True)
    (event,) = camera.events.recent
    assert event.name == "last_chunk_given_up"
    assert "3 frames" in event.message


def test_gates_are_numbers_once_the_network_has_worked() -> None:
    """Nobody else reads from the GPU, which may hang."""
    model = WatchedModel(small_model())
    assert model.gate_means == {}
    stream = Reconstructor(model, 2, 1, resolution=(16, 16))
    for number in range(2):
        stream.push(frame(number, (16, 16)))
    assert set(model.gate_means) == {"fast_weights", "sliding_window"}
    assert all(type(mean) is float for mean in model.gate_means.values())


def test_a_clock_that_jumps_back_mutes_its_old_time_until_stamps_jump_too() -> None:
    second = 10**9
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    jumps = TimeJumps(clock)

    def at(seconds: int) -> None:
        clock.set_ros_time_override(Time(seconds=seconds, clock_type=ClockType.ROS_TIME))

    at(50)
    assert not jumps.before(53 * second), "a camera whose clock is 3 s ahead"
    at(20)
    assert not jumps.before(53 * second)
    assert not jumps.before(23 * second)
    assert not jumps.before(24 * second)
    at(25)
    assert not jumps.before(25 * second)
    at(10)
    assert jumps.before(25 * second)
    assert not jumps.before(13 * second), "the first image of the new time, 3 s ahead"
    assert not jumps.before(14 * second)
    at(40)
    assert not jumps.before(5 * second), "images began anew before the clock did"
    at(5)
    assert not jumps.before(7 * second)
    assert jumps.left_behind(40 * second), "a map of before, whose stream has begun anew"
    assert not jumps.left_behind(7 * second)
    at(100)
    assert not jumps.before(100 * second)
    at(60)
    assert jumps.left_behind(100 * second), "nothing has come since the clock jumped"
    jumps.close()
