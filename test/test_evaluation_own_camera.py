"""Cameras that a recording does not tell, given beside it, and those that the network did not learn from."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkpoints import small_checkpoint
from networks import small_model
from PIL import Image

from loger_ros.cli import main
from loger_ros.cli.unread import READERS
from loger_ros.config import StreamConfig
from loger_ros.evaluation.evaluate import Job, choice_of_run
from loger_ros.evaluation.report.folder import problems_of
from loger_ros.evaluation.run import Run, Settings, run_source
from loger_ros.evaluation.sources import Choice, SourceError, open_source
from loger_ros.geometry import mount
from loger_ros.mapping.trajectory_files import write_tum
from loger_ros.model.carried import Carried
from loger_ros.types import Trajectory
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.bag import write_bag

SMALL_VIEW = StreamConfig(chunk_size=2, overlap=1, resolution="16x12", field_of_view=60)
CALIBRATION = {
    "image_width": 40,
    "image_height": 30,
    "camera_name": "narrow_stereo",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [30.0, 0, 19.5, 0, 31.0, 14.5, 0, 0, 1]},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [-0.1, 0.01, 0, 0, 0]},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [29.0, 0, 19.5, 0, 0, 29, 14.5, 0, 0, 0, 1, 0]},
}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    return written(tmp_path, {})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def written(folder: Path, changes: dict[str, object]) -> Path:
    values = {name: value for name, value in (CALIBRATION | changes).items() if value is not None}
    (folder / "camera.yaml").write_text(yaml.safe_dump(values))
    return folder / "camera.yaml"


def test_own_images_get_the_camera_of_a_calibration(images: Path, calibration: Path) -> None:
    source = open_source(images, Choice(camera_info=str(calibration)))
    camera = source.camera
    assert (camera.width, camera.height, camera.model) == (40, 30, "plumb_bob")
    np.testing.assert_array_equal(camera.matrix, [[30, 0, 19.5], [0, 31, 14.5], [0, 0, 1]])
    assert camera.distortion == (-0.1, 0.01, 0, 0, 0)
    run = run_source(source, small_model().requires_grad_(False), Settings(SMALL_VIEW))
    assert not run.events.counts
    assert run.camera_is_known


def test_a_camera_that_nobody_tells_names_the_way_to_tell_it(images: Path) -> None:
    run = run_source(open_source(images), small_model().requires_grad_(False), Settings(SMALL_VIEW))
    (event,) = run.events.recent
    assert event.name == "camera_unknown"
    assert "--camera-info FILE" in event.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_matrix": None}, "has no camera_matrix: a calibration as"),
        ({"distortion_coefficients": {"rows": 1}}, "has no data"),
        (
            {"camera_matrix": {"data": [1, 2]}},
            "is not a camera calibration: camera_matrix has 2 numbers, not 9",
        ),
        ({"camera_matrix": 5}, "is not a camera calibration"),
        ({"camera_matrix": {"data": [0.0] * 9}}, "its size or focal length is 0"),
        ({"distortion_model": "of the moon"}, "of the moon"),
        ({"distortion_coefficients": {"data": [float("nan")]}}, "not finite"),
        ({"image_width": 40_000}, "K may be for another image size"),
    ],
)
def test_a_file_that_is_no_calibration_is_named(
    changes: dict[str, object], message: str, images: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, changes)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(images, Choice(camera_info=str(file)))
    assert str(file) in str(caught.value)


def test_broken_yaml_is_told_in_one_line_with_that_of_the_file(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("image_width: 640\nimage_height: [1, 2\ncamera_matrix: 5\n")
    with pytest.raises(SourceError, match=r"cannot be read as YAML: line 3: ") as caught:
        open_source(images, Choice(camera_info=str(file)))
    assert "\n" not in str(caught.value)


def test_a_bag_without_camera_info_keeps_its_mounting(tmp_path: Path, calibration: Path) -> None:
    pytest.importorskip("rosbags")
    sequence = generate(SequenceSpec("rooms", frames=2, width=40, height=30), seed=4)
    write_bag(sequence, tmp_path / "bag")
    mounted = open_source(tmp_path / "bag").camera.T_base_camera
    camera = open_source(tmp_path / "bag", Choice(camera_info=str(calibration))).camera
    assert camera.matrix[0, 0] == 30
    np.testing.assert_array_equal(camera.T_base_camera, mounted)


def test_a_mounting_that_is_said_counts(images: Path, calibration: Path, tmp_path: Path) -> None:
    """Metres and radians as the node's parameters; the camera's body looks along x of the base."""
    choice = Choice(
        camera_info=str(calibration), camera_xyz=(0.2, 0, 0.5), camera_rpy=(0, np.pi / 6, np.pi / 2)
    )
    mounted = open_source(images, choice).camera.T_base_camera
    np.testing.assert_allclose(mounted[:3, 3], [0.2, 0, 0.5])
    np.testing.assert_allclose(mounted[:3, 2], [0, np.sqrt(3) / 2, -0.5], atol=1e-12)
    low = open_source(images, Choice(camera_info=str(calibration), camera_xyz=(0, 0, 0.1))).camera
    np.testing.assert_array_equal(low.T_base_camera[:3], mount((0, 0, 0.1), (0, 0, 0))[:3])
    with pytest.raises(SourceError, match="give --camera-info FILE, too"):
        open_source(images, Choice(camera_xyz=(0, 0, 0.1)))
    with pytest.raises(SourceError, match="finite"):
        open_source(images, Choice(camera_info=str(calibration), camera_rpy=(0, float("nan"), 0)))


def test_it_replaces_that_of_a_bag_and_goes_into_one(images: Path, calibration: Path, tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    given = ["--camera-xyz", "0.1", "-0.2", "0.3", "--camera-rpy", "0", "-0.1", "0"]
    command = ["export", "bag", str(images), str(tmp_path / "bag"), "--camera-info", str(calibration)]
    assert main([*command, *given]) == 0
    mounted = open_source(tmp_path / "bag").camera.T_base_camera
    np.testing.assert_allclose(mounted, mount((0.1, -0.2, 0.3), (0, -0.1, 0)), atol=1e-12)
    other = open_source(tmp_path / "bag", Choice(camera_xyz=(1, 2, 3))).camera
    np.testing.assert_allclose(other.T_base_camera, mount((1, 2, 3), (0, -0.1, 0)), err_msg="its turn stays")
    other = open_source(tmp_path / "bag", Choice(camera_rpy=(0, 0.2, 0))).camera
    np.testing.assert_allclose(other.T_base_camera, mount((0.1, -0.2, 0.3), (0, 0.2, 0)), atol=1e-12)


@pytest.mark.parametrize(
    ("unit", "mounted", "said"),
    [
        (0.4, mount((0, 0, 0.4), (0, 0.1, 0)), []),
        (0.4, mount((0, 0, 0.4), (0, -0.5, 0)), ["differently than in training: it is -28.6 degrees"]),
        (
            0.05,
            mount((0, 0, 0.4), (0, 0.1, 0)),
            ["mounted differently than in training", "set stream.unit (--unit) to"],
        ),
        (1.0, None, []),
    ],
)
def test_a_mounting_that_the_network_did_not_learn_is_told_once(
    unit: float, mounted: np.ndarray | None, said: list[str], images: Path, calibration: Path
) -> None:
    model = small_model().requires_grad_(False)
    model.carried = Carried(height=(0.2, 1.2), pitch=(0, 20))
    source = open_source(images, Choice(camera_info=str(calibration)))
    source.camera = dataclasses.replace(source.camera, T_base_camera=mounted)
    run = run_source(source, model, Settings(dataclasses.replace(SMALL_VIEW, unit=unit)))
    assert run.events.counts == ({"mounted_otherwise": 1} if said else {})
    for words in said:
        assert words in problems_of(source, run)[0]["message"]


def test_lengths_are_in_metres_if_the_mounting_is_known(images: Path, calibration: Path) -> None:
    model = small_model().requires_grad_(False)
    model.carried = Carried(height=(0.2, 1.2), pitch=(0, 20))
    source = open_source(images, Choice(camera_info=str(calibration)))
    unknown, known = source.camera, mount((0, 0, 0.4), (0, 0.1, 0))

    def run(mounted: np.ndarray | None, unit: float) -> Run:
        source.camera = dataclasses.replace(unknown, T_base_camera=mounted)
        return run_source(source, model, Settings(dataclasses.replace(SMALL_VIEW, unit=unit)))

    automatic = run(known, 0.0)
    assert automatic.events.counts == {"unit_assumed": 1}
    assert "the camera is 0.4 m above the ground" in automatic.events.recent[-1].message
    given = run(known, 0.4)
    assert given.events.counts == {}
    np.testing.assert_array_equal(automatic.trajectory.T_map_camera, given.trajectory.T_map_camera)
    in_heights = run(known, 1.0).trajectory.T_map_camera
    np.testing.assert_allclose(automatic.trajectory.T_map_camera[:, :3, 3], 0.4 * in_heights[:, :3, 3])
    at_one = run(mount((0, 0, 1.0), (0, 0.1, 0)), 0.0)
    assert at_one.events.counts == {"unit_assumed": 1}, "a height of 1 m is assumed like any other"
    as_is = run(None, 0.0)
    assert as_is.events.counts == {}
    np.testing.assert_array_equal(as_is.trajectory.T_map_camera, run(None, 1.0).trajectory.T_map_camera)


def test_an_unknown_height_is_told_if_lengths_should_be_metres(images: Path, calibration: Path) -> None:
    """Without undistortion the stream knows no camera, and so no mounting."""
    model = small_model().requires_grad_(False)
    model.carried = Carried(height=(0.2, 1.2))
    source = open_source(images, Choice(camera_info=str(calibration), camera_xyz=(0, 0, 0.4)))
    native = dataclasses.replace(SMALL_VIEW, field_of_view=0.0)
    used, unused, given = (
        run_source(source, model, Settings(dataclasses.replace(native, unit=unit), undistort=undistort))
        for unit, undistort in ((0.0, True), (0.0, False), (1.0, False))
    )
    assert used.events.counts == {"unit_assumed": 1}
    assert unused.events.counts == {"mounted_otherwise": 1}
    assert "lengths are probably not metres" in unused.events.recent[-1].message
    np.testing.assert_array_equal(unused.trajectory.T_map_camera, given.trajectory.T_map_camera)
    source = open_source(images, Choice(camera_info=str(calibration), camera_rpy=(0, 0.1, 0)))
    assert run_source(source, model, Settings(native)).events.counts == {"mounted_otherwise": 1}


def test_a_finished_run_knows_how_its_camera_was_given() -> None:
    choice = Choice(camera_info="camera.yaml", camera_xyz=(0, 0, 0.5))
    metrics = json.loads(json.dumps({"choice": dataclasses.asdict(choice)}))
    assert choice_of_run(metrics) == choice
    del metrics["choice"]["camera_xyz"]
    assert choice_of_run(metrics).camera_xyz == (), "of a version before"
    metrics["choice"]["rate"] = 10.0  # in which videos did not look at it
    for kind, rate in (("video", 0.0), ("image folder", 10.0)):
        assert choice_of_run(metrics | {"source": {"kind": kind}}).rate == rate


def test_another_calibration_is_another_job(images: Path, calibration: Path, tmp_path: Path) -> None:
    job = Job(str(images), tmp_path / "out", "tiny", Settings(), Choice(camera_info=str(calibration)))
    before = job.fingerprint
    calibration.write_text(calibration.read_text() + "\n")
    assert job.fingerprint != before


def test_the_option_is_heard_where_recordings_are_opened(
    images: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ["--camera-info", str(calibration)]
    assert main(["export", "tum", str(images), str(tmp_path / "tum"), *given]) == 0
    assert open_source(tmp_path / "tum").camera.matrix[0, 0] == 30
    assert main(["eval", str(images), "--camera-info", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml cannot be read" in capsys.readouterr().err


def test_a_replay_ends_with_the_command_that_reports_it(
    images: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of the recording as it was opened."""
    write_tum(tmp_path / "true poses.txt", Trajectory((10**9,), np.eye(4)[None], (0,)))
    words = ["replay", str(images), "--core", "--model", str(small_checkpoint(tmp_path / "s.safetensors"))]
    words += ["--resolution", "16x12", "--out", str(tmp_path / "replays"), "--rate", "5"]
    words += ["--camera-info", str(calibration), "--camera-xyz", "0", "-0.1", "0.5"]
    assert main([*words, "--truth", str(tmp_path / "true poses.txt")]) == 0
    loger, *command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert loger == "loger"
    assert main([*command, "--out", str(tmp_path), "--no-pictures"]) == 0, capsys.readouterr().err
    (report,) = tmp_path.glob("*_trajectory/metrics.json")
    metrics = json.loads(report.read_text())
    assert metrics["frames"]["posed"] == 3
    assert choice_of_run(metrics) == Choice(
        truth=str(tmp_path / "true poses.txt"),
        camera_info=str(calibration),
        camera_xyz=(0, -0.1, 0.5),
        rate=5,
    )


def test_options_that_a_recording_does_not_read_are_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {item.name for item in dataclasses.fields(Choice)} > set(READERS)
    for command in (
        ["eval", str(images)],
        ["replay", str(images), "--core"],
        ["export", "tum", str(images), "x"],
    ):
        assert main([*command, "--topic", "/image"]) == 2
        assert "--topic has no effect on" in capsys.readouterr().err
    for source, option in (
        (str(images), ["--camera", "cam1"]),
        (str(images), ["--size", "64x48"]),
        ("robot_rooms/0", ["--rate", "5"]),
        ("robot_rooms/0", ["--camera", "cam1"]),
        ("robot_rooms/0", ["--truth-frame", "gripper"]),
    ):
        assert main(["eval", source, *option, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert f"loger eval: {option[0]} has no effect on {source}, which is of the kind" in said
    assert main(["eval", "nothing", "--topic", "/image"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
