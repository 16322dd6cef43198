"""One camera's stream in the node: what it makes of frames of no use and of odd clocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from camera_rig import LENS, SHORT, camera_stream, frame, run

pytest.importorskip("rclpy", reason="needs ROS 2")

from networks import small_model

from loger_ros.config import ConfigError, MapConfig, QueueConfig, StreamConfig
from loger_ros.geometry import mount
from loger_ros.mapping.cloud import Cloud
from loger_ros.mapping.journal import read_journal
from loger_ros.model.carried import Carried
from loger_ros.ros.config import FramesConfig, InputConfig, NodeConfig
from loger_ros.ros.messages import header, image_message
from loger_ros.ros.network import WatchedModel
from loger_ros.ros.odometry import Odometer
from loger_ros.ros.outputs import Outputs, ThinnedPath, placed
from loger_ros.ros.transforms import Mounting
from loger_ros.stream import Reconstructor
from loger_ros.types import Camera, Frame


def test_images_that_wait_at_a_reset_are_still_turned_as_the_camera_is_mounted() -> None:
    """And the next image asks anew how that is, until somebody knows."""
    mounts = [mount((0, 0, 0.5), (0, pitch, 0)) for pitch in (0.1, 0.3)]
    told: list[Mounting | None] = [Mounting(m, m) for m in mounts]
    told.insert(1, None)
    camera = camera_stream(mounting=lambda frame: told.pop(0))
    camera.intake.camera = Camera(8, 6, np.diag([5.0, 5.0, 1.0]))
    waiting = Frame(0, np.zeros((6, 8, 3), np.uint8))
    assert camera.mounted.find("camera")
    camera.reset()
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[0])
    assert not camera.mounted.find("camera"), "it may have been mounted anew, and nobody knows yet"
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[0])
    assert camera.mounted.find("camera")
    assert np.array_equal(camera._camera_of(waiting).T_base_camera, mounts[1])
    assert camera.mounted.find("camera")
    assert not told


def test_another_mounting_counts_after_a_reset_and_is_told_until_then() -> None:
    mounts = [mount((0, 0, 0.5), (0, pitch, 0)) for pitch in (0.1, 0.3)]
    now = [Mounting(m, m) for m in mounts]
    camera = camera_stream(
        config=NodeConfig(stream=StreamConfig(**SHORT), input=InputConfig(undistort=False)),
        mounting=lambda frame: now[0],
    )
    moved: list[np.ndarray] = []
    camera.outputs.motion = lambda motion: moved.append(motion.T_map_odom @ motion.T_odom_base)

    def send(*numbers: int) -> list[str]:
        for number in numbers:
            shown = frame(number)
            camera.intake.image(image_message(header(shown.stamp, "camera"), shown.image, "rgb8"))
            camera.step()
        return camera.mounted_otherwise

    assert not send(0, 1)
    del now[0]
    assert "call ~/reset" in send(2, 3)[0]
    assert np.allclose(camera._odometer._carry, Odometer(mounts[0])._carry), "no jump in the middle of a way"
    camera.reset()
    assert not send(4, 5)
    assert np.allclose(camera._odometer._carry, Odometer(mounts[1])._carry)
    assert np.allclose(moved[-2], np.eye(4), atol=1e-6), "the robot is at the origin"


def test_the_mounting_is_that_of_the_camera_whose_images_are_taken() -> None:
    """The first image, of another frame, was dropped for something else."""
    mounts = {name: mount((0, 0, 0.5), (0, pitch, 0)) for name, pitch in (("one", 0.1), ("other", 0.3))}
    camera = camera_stream(mounting=lambda frame: Mounting(mounts[frame], mounts[frame]))

    def send(number: int, name: str) -> None:
        camera.intake.image(image_message(header(number, name), frame(number).image, "rgb8"))

    send(1, "one")
    assert camera.statistics.dropped == {"waiting_for_camera_info": 1}
    camera.intake.camera = LENS
    send(2, "other")
    assert camera.intake.frame_id == "other"
    assert np.array_equal(camera.mounted.now.T_base_camera, mounts["other"])
    send(3, "one")
    assert camera.statistics.dropped["other_camera"] == 1
    assert np.array_equal(camera.mounted.now.T_base_camera, mounts["other"])


def test_a_frame_that_is_no_optical_one_is_told() -> None:
    """As of simulated cameras, whose images are of the frame of the housing."""
    for turn, said in ((np.eye(4), True), (mount((0, 0, 0.5), (0, 0.3, 0)), False)):
        camera = camera_stream(mounting=lambda frame, turn=turn: Mounting(turn, turn))
        assert camera.mounted.find("camera_link")
        assert any("optical frame" in text for text in camera.mounted_otherwise) == said


@pytest.mark.parametrize("undistort", [True, False])
def test_a_camera_that_nobody_describes_leaves_lengths_in_camera_heights(undistort: bool) -> None:
    """The mounting is known either way, but the stream gets it together with the lens."""
    mounted = mount((0, 0, 0.5), (0, 0.1, 0))
    camera = camera_stream(
        config=NodeConfig(stream=StreamConfig(**SHORT), input=InputConfig(undistort=undistort)),
        mounting=lambda frame: Mounting(mounted, mounted),
    )
    camera._model.carried = Carried(height=(0.2, 1.2))
    camera.intake.camera = LENS
    assert camera.mounted.find("camera")
    assert not camera.mounted_otherwise, "there was no image yet"
    run(camera, *range(4))
    assert camera.events.counts["unit_assumed"] == undistort
    assert [text.partition(":")[0] for text in camera.mounted_otherwise] == (
        [] if undistort else ["lengths are probably not metres"]
    )


def test_a_map_that_finds_no_room_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = camera_stream(config=NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16)))
    moved: list[Any] = []
    camera.outputs.motion = moved.append

    def full(*arguments: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(camera._map._voxels, "insert", full)
    assert run(camera, *range(24))["map_failed"] > 0
    camera.map_cloud()
    assert camera.events.counts.keys() == {"map_failed"}
    assert len(moved) >= 20
    assert "lower map.max_voxels" in camera.events.recent[-1].message


def test_a_reset_empties_the_map_and_a_place_begins_another_segment(tmp_path: Path) -> None:
    config = NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16))
    camera = camera_stream(config=config, journal=tmp_path / "journal.tum")
    run(camera, *range(6))
    assert len(camera.map_cloud()) > 0
    camera.place(mount((1.0, 2.0, 0.0), (0.0, 0.0, 1.0)))
    run(camera, *range(6, 9))
    assert len(set(read_journal(tmp_path / "journal.tum").segments)) == 2
    camera.reset()
    assert len(camera.map_cloud()) == 0


def test_points_are_moved_to_where_the_map_has_them() -> None:
    rng = np.random.default_rng(0)
    T_map_world = mount(tuple(rng.normal(size=3)), tuple(rng.normal(size=3)))
    points = torch.from_numpy(rng.normal(size=(20, 3)))
    cloud = Cloud(points, torch.zeros(20, 3, dtype=torch.uint8), torch.ones(20))
    expected = [T_map_world[:3, :3] @ point + T_map_world[:3, 3] for point in points.numpy()]
    assert np.allclose(placed(cloud, T_map_world).points, expected)
    assert placed(cloud, T_map_world).colours is cloud.colours


# ---- images ---------------------------------------------------------------------------------------------


def test_a_stamp_that_leaps_ahead_is_dropped_unless_the_next_one_agrees() -> None:
    """Once it is on /tf, nobody hears of ours until then."""
    second, clock = 10**9, [100 * 10**9]
    config = NodeConfig(input=InputConfig(undistort=False))
    for policy, taken in (("latest", [100, 102, 3603]), ("keep_all", [100, 3600, 102, 3602, 3603])):
        camera = camera_stream(
            config=replace(config, queue=QueueConfig(policy=policy, capacity=8)), now=lambda: clock[0]
        )
        for stamp in (100, 3600, 102, 3602, 3603):
            message = image_message(header(stamp * second, "camera"), frame(stamp).image, "rgb8")
            camera.intake.image(message)
        stamps = [camera.queue.get(0).stamp // second for _ in range(len(camera.queue))]
        assert stamps == taken
        assert camera.statistics.dropped["stamped_ahead"] == 5 - len(taken)


def test_a_lone_stamp_far_behind_is_dropped_too() -> None:
    second, now = 10**9, 100 * 10**9
    for stamps, taken in (
        ((100, 50, 101, 102), [100, 101, 102]),
        ((100, 50, 51, 52, 101), [100, 51, 52, 101]),
        ((50, 51, 100), [50, 51, 100]),  # a bag without its clock
        ((3600, 50, 51, 3601, 3602), [51, 3602]),
        ((50, 51, 20, 21), [50, 51, 20, 21]),  # a bag that loops, without its clock
        ((91, 89, 91, 88, 90), [91, 89, 91, 88, 90]),  # about as far away as the one before
    ):
        camera = camera_stream(config=NodeConfig(input=InputConfig(undistort=False)), now=lambda: now)
        for stamp in stamps:
            camera.intake.image(image_message(header(stamp * second, "camera"), frame(stamp).image, "rgb8"))
        assert [camera.queue.get(0).stamp // second for _ in range(len(camera.queue))] == taken
        assert sum(camera.statistics.dropped.values()) == len(stamps) - len(taken)


def test_the_rate_can_be_changed_while_it_runs() -> None:
    config = NodeConfig(input=InputConfig(undistort=False), queue=QueueConfig(max_rate=1.0))
    camera = camera_stream(config=config)
    second = 10**9

    def taken(*tenths: int) -> list[int]:
        for tenth in tenths:
            stamp = header(tenth * second // 10, "camera")
            camera.intake.image(image_message(stamp, frame(tenth).image, "rgb8"))
        return [camera.queue.get(0).stamp * 10 // second for _ in range(len(camera.queue))]

    assert taken(10, 11, 12) == [10]
    camera.settings_changed(replace(config, queue=QueueConfig(max_rate=5.0)))
    assert taken(13, 14, 15, 16) == [13, 15]
    camera.settings_changed(replace(config, queue=QueueConfig(every_nth=3)))
    assert taken(17, 18, 19, 20, 21, 22) == [19, 22]


def test_an_image_without_a_stamp_is_dropped_unless_time_begins() -> None:
    clock = [100 * 10**9]
    camera = camera_stream(config=NodeConfig(input=InputConfig(undistort=False)), now=lambda: clock[0])
    for clock[0], taken in ((100 * 10**9, 0), (10**9, 1)):
        camera.intake.image(image_message(header(0, "camera"), frame(0).image, "rgb8"))
        assert len(camera.queue) == taken
    assert camera.statistics.dropped == {"no_stamp": 1}
    assert "header.stamp" in camera.events.recent[0].message


@pytest.mark.parametrize("moment", ["read", "offer"])
def test_an_image_on_its_way_during_a_reset_is_of_before(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = camera_stream(config=NodeConfig(input=InputConfig(undistort=False)))
    owner, name = {"read": (camera.intake, "_read"), "offer": (camera.queue, "offer")}[moment]
    goes_on = getattr(owner, name)

    def reset_meanwhile(*given: Any) -> Any:
        camera.reset()
        return goes_on(*given)

    def send(number: int, name: str) -> int:
        camera.intake.image(image_message(header(number, name), frame(number).image, "rgb8"))
        return len(camera.queue)

    assert send(1, "camera") == 1
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, reset_meanwhile)
        assert send(2, "camera") == 0
    assert camera.statistics.dropped == {"reset": 1, "queue_cleared": 1}
    assert send(3, "renamed") == 1
    assert "other_camera" not in camera.statistics.dropped


def test_an_image_that_is_left_out_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    config = NodeConfig(input=InputConfig(undistort=False), queue=QueueConfig(every_nth=3))
    camera = camera_stream(config=config)
    decode = Mock(wraps=camera.intake._read)
    monkeypatch.setattr(camera.intake, "_read", decode)
    for number in range(1, 8):
        camera.intake.image(image_message(header(number, "camera"), frame(number).image, "rgb8"))
    assert decode.call_count == len(camera.queue) == 3
    assert camera.statistics.dropped == {"every_nth": 4}


def test_frames_of_a_chunk_that_fails_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = StreamConfig(chunk_size=4, overlap=1, resolution="8x6")
    camera = camera_stream(config=NodeConfig(stream=longer, map=MapConfig(max_voxels=16)))
    run(camera, 0, 1, 2)
    monkeypatch.setattr(camera._model, "step", Mock(side_effect=torch.cuda.OutOfMemoryError("no room")))
    assert run(camera, 3)["chunk_lost"] == 1
    assert camera.statistics.counts["without_pose"] == 4
    camera.reset()
    run(camera, 4, 5)
    camera.reset()
    assert camera.statistics.counts["without_pose"] == 6, "of the chunk that was given up"


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


def test_an_image_that_shows_nothing_is_told_and_taken() -> None:
    camera = camera_stream(config=NodeConfig(input=InputConfig(undistort=False)))

    def send(number: int, pixels: np.ndarray, encoding: str) -> str:
        camera.intake.image(image_message(header(number, "camera"), pixels, encoding))
        return camera.events.recent[-1].message if camera.events.recent else ""

    noise = np.random.default_rng(0).integers(0, 4096, (6, 8), dtype=np.uint16)
    assert not send(1, noise << 4, "mono16")
    assert not send(2, (noise >> 4).astype(np.uint8), "mono8")
    assert "10 or 12 of 16 bits" in send(3, noise, "mono16")
    text = send(4, np.full((6, 8, 3), 255, np.uint8), "rgb8")
    assert "255 to 255 of 255" in text
    assert "cap on the lens" in text
    assert camera.events.counts == {"nothing_to_see": 2}
    assert len(camera.queue) == 4
    assert not camera.statistics.dropped


def test_where_several_cameras_are_no_frame_is_that_of_all() -> None:
    two = InputConfig(cameras=("front", "rear"))
    with pytest.raises(ConfigError, match=r"frames\.camera is 'lens'; it must be empty with several"):
        NodeConfig(input=two, frames=FramesConfig(camera="lens"))
    NodeConfig(input=two)


def test_our_correction_is_not_for_the_odometry_of_others() -> None:
    with pytest.raises(ConfigError, match="must be false if publish_odom_base is"):
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
    clouds: list[int] = []
    collected = camera._map.cloud
    camera._map.cloud = lambda: [clouds.append(1), collected()][1]
    run(camera, 0, 1, 2)
    camera.outputs.map_due = lambda: True
    left.add(frame(1).stamp)
    camera.step()
    assert camera._map.newest in left
    assert not sent
    assert not clouds, "made to be thrown away"
    run(camera, 3)
    assert sent == [frame(2).stamp]


def test_a_map_that_takes_long_is_sent_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("loger_ros.ros.outputs.time.monotonic", lambda: now[0])
    outputs = Outputs.__new__(Outputs)
    outputs._config, outputs.map_frame, outputs._clouds = NodeConfig(), "map", {}
    outputs._map_points = SimpleNamespace(get_subscription_count=lambda: 1, publish=lambda message: None)
    outputs._aged = lambda topic, stamp: None

    def cloud_that_takes(seconds: float) -> Cloud:
        now[0] += seconds
        return Cloud(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(1))

    def due_after(waited: float) -> bool:
        now[0] += waited
        return outputs.map_due()

    outputs.map_points(lambda: cloud_that_takes(0.1), np.eye(4), 1)  # the period of 2 s is enough
    assert not due_after(1.8)
    assert due_after(0.2)
    outputs.map_points(lambda: cloud_that_takes(1.0), np.eye(4), 2)
    assert not due_after(8.9)
    assert due_after(0.2)
    outputs.map_points(lambda: cloud_that_takes(1.0), np.eye(4), 3)
    outputs.forget_path()
    assert due_after(1.1), "a map that began anew is shown soon"


def test_a_way_that_begins_anew_has_no_path_that_was_withheld() -> None:
    outputs = Outputs.__new__(Outputs)
    outputs._config = NodeConfig()
    outputs.map_frame = "map"
    outputs._way = ThinnedPath(10, "map")
    outputs._path = SimpleNamespace(get_subscription_count=lambda: 1)
    outputs._path_due = float("inf")
    outputs._way.add(1, np.eye(4))
    outputs.path()
    assert outputs._path_withheld
    outputs.forget_path()
    assert not outputs.path_due


def test_images_that_still_wait_at_the_end_are_told() -> None:
    camera = camera_stream(config=NodeConfig(stream=StreamConfig(**SHORT), map=MapConfig(max_voxels=16)))
    run(camera, 0, 1)
    camera.queue.put(frame(2))
    camera.queue.put(frame(3))
    camera.finish(in_a_hurry=False)
    assert camera.statistics.dropped["end"] == 2
    assert "2 images that waited" in camera.events.recent[-1].message


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
