"""Exports read again by others: our readers, rosbags, and COLMAP's conventions worked out by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import small_model
from PIL import Image
from world_folders import write_tum_folder

from loger_ros.cli import main
from loger_ros.config import CloudConfig, StreamConfig
from loger_ros.evaluation.evaluate import Job, evaluate
from loger_ros.evaluation.export.colmap import write_colmap
from loger_ros.evaluation.intrinsics import FocalLength, read_camera
from loger_ros.evaluation.run import Settings
from loger_ros.evaluation.sources import open_source
from loger_ros.geometry import inverse, rotation_of, transform
from loger_ros.mapping.point_files import read_pcd, read_ply
from loger_ros.mapping.trajectory_files import read_kitti, read_tum
from loger_ros.world import SequenceSpec, generate
from loger_ros.world.bag import write_bag

COUNT = 7


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "rooms"
    write_tum_folder(generate(SequenceSpec("rooms", frames=COUNT, width=40, height=30), seed=4), folder)
    return folder


@pytest.fixture(scope="module")
def result(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "rooms"
    stream = StreamConfig(chunk_size=4, overlap=1, alignment="se3", resolution="32x24")
    settings = Settings(stream, CloudConfig(min_confidence=0.0, edge_tolerance=0.0, stride=2))
    evaluate(Job(str(recording), out, "small", settings, pictures=False), small_model().requires_grad_(False))
    return out


@pytest.mark.parametrize("kind", ["tum", "kitti", "bag"])
def test_a_recording_comes_back_from_every_format(kind: str, recording: Path, tmp_path: Path) -> None:
    if kind == "bag":
        pytest.importorskip("rosbags")
    assert main(["export", kind, str(recording), str(tmp_path / "there")]) == 0
    source, there = open_source(recording), open_source(tmp_path / "there")
    frames = list(there.frames())
    assert len(frames) == COUNT
    for frame, original in zip(frames, source.frames(), strict=True):
        assert np.array_equal(frame.image, original.image)
    moved = inverse(source.truth().T_map_camera[:1]) if kind == "kitti" else np.eye(4)
    np.testing.assert_allclose(there.truth().T_map_camera, moved @ source.truth().T_map_camera, atol=1e-8)
    np.testing.assert_allclose(there.camera.matrix, source.camera.matrix, rtol=1e-8)
    steps = np.diff([frame.stamp for frame in frames])
    assert np.array_equal(steps, np.diff(source.stamps))
    if kind == "tum":
        depth = there.depth(frames[2].stamp)
        np.testing.assert_allclose(depth, source.depth(frames[2].stamp), atol=1e-6)
    assert not there.problems.counts


def test_a_bag_keeps_how_the_camera_is_mounted(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    write_bag(generate(SequenceSpec("rooms", frames=2, width=40, height=30), seed=4), tmp_path / "bag")
    assert main(["export", "bag", str(tmp_path / "bag"), str(tmp_path / "again")]) == 0
    mounting = open_source(tmp_path / "bag").camera.T_base_camera
    assert mounting is not None
    np.testing.assert_allclose(open_source(tmp_path / "again").camera.T_base_camera, mounting, atol=1e-12)


def test_a_result_becomes_files(result: Path, tmp_path: Path) -> None:
    for kind, name in (("tum", "t.txt"), ("kitti", "k.txt"), ("ply", "c.ply"), ("pcd", "c.pcd")):
        assert main(["export", kind, str(result), str(tmp_path / name)]) == 0
    made = read_tum(result / "trajectory.txt")
    assert read_tum(tmp_path / "t.txt").stamps == made.stamps
    np.testing.assert_allclose(read_kitti(tmp_path / "k.txt"), made.T_map_camera, atol=1e-7)
    cloud = read_ply(result / "cloud.ply")
    assert len(cloud) > 100
    for read, name in ((read_ply, "c.ply"), (read_pcd, "c.pcd")):
        np.testing.assert_array_equal(read(tmp_path / name).points, cloud.points)


def test_a_result_becomes_a_bag(result: Path, tmp_path: Path) -> None:
    highlevel = pytest.importorskip("rosbags.highlevel")
    assert main(["export", "bag", str(result), str(tmp_path / "bag")]) == 0
    seen: dict[str, list] = {}
    with highlevel.AnyReader([tmp_path / "bag"]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        for connection, _, data in reader.messages():
            seen.setdefault(connection.topic, []).append(reader.deserialize(data, connection.msgtype))
    assert {topic: len(found) for topic, found in seen.items()} == {
        "/odometry": COUNT,
        "/tf": COUNT,
        "/map_points": 1,
    }
    assert {t for t, name in offered.items() if name == "TRANSIENT_LOCAL"} == {"/map_points"}
    made, cloud = read_tum(result / "trajectory.txt"), read_ply(result / "cloud.ply")
    place = seen["/odometry"][3].pose.pose.position
    np.testing.assert_allclose([place.x, place.y, place.z], made.T_map_camera[3, :3, 3])
    (points,) = seen["/map_points"]
    rows = points.data.view([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    assert (points.width, points.point_step, points.header.frame_id) == (len(cloud), 16, "map")
    np.testing.assert_array_equal(rows["y"], cloud.points[:, 1])
    assert rows["rgb"][5] == int("".join(f"{int(value):02x}" for value in cloud.colours[5]), 16)


def test_a_result_without_a_cloud_still_has_poses(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("rosbags")
    bare = shutil.copytree(result, tmp_path / "bare")
    (bare / "cloud.ply").unlink()
    assert main(["export", "bag", str(bare), str(tmp_path / "bag")]) == 0
    assert main(["export", "colmap", str(bare), str(tmp_path / "model")]) == 0
    assert len(_rows(tmp_path / "model" / "sparse" / "0" / "images.txt")) == COUNT
    assert main(["export", "ply", str(bare), str(tmp_path / "c.ply")]) == 2
    assert "has no cloud.ply: its poses were made elsewhere" in capsys.readouterr().err
    metrics = json.loads((bare / "metrics.json").read_text())
    metrics["choice"]["truth"] = "of_another_folder.txt"
    (bare / "metrics.json").write_text(json.dumps(metrics))
    assert main(["export", "colmap", str(bare), str(tmp_path / "again")]) == 0, "which needs no truth"
    (bare / "metrics.json").write_text(json.dumps(metrics | {"settings": {}}))
    assert main(["export", "colmap", str(bare), str(tmp_path / "foreign")]) == 2
    assert "were made elsewhere" in capsys.readouterr().err


def test_a_result_becomes_a_model_of_colmap(result: Path, tmp_path: Path) -> None:
    """What the model projects into an image lies where our own camera sees it, half a pixel on."""
    assert main(["export", "colmap", str(result), str(tmp_path / "model")]) == 0
    model = tmp_path / "model" / "sparse" / "0"
    ((_, name, *numbers),) = _rows(model / "cameras.txt")
    assert name == "PINHOLE"
    width, height, fx, fy, cx, cy = map(float, numbers)
    images = _rows(model / "images.txt")
    assert len(images) == COUNT
    made, camera = read_tum(result / "trajectory.txt"), open_source_camera(result)
    assert (width, height) == (camera.width, camera.height)
    row = images[4]
    quaternion, shift = np.array(row[1:5], float), np.array(row[5:8], float)
    T_camera_map = transform(rotation_of(quaternion[[1, 2, 3, 0]]), shift)
    point = made.T_map_camera[4] @ [0.3, -0.2, 2.0, 1.0]
    there = T_camera_map @ point
    pixel = camera.matrix @ [0.15, -0.1, 1.0]
    np.testing.assert_allclose(
        [fx * there[0] / there[2] + cx, fy * there[1] / there[2] + cy], pixel[:2] + 0.5, atol=1e-4
    )
    assert Image.open(tmp_path / "model" / "images" / row[9]).size == (40, 30)
    points = _rows(model / "points3D.txt")
    assert len(points) == len(read_ply(result / "cloud.ply"))
    assert all(len(row) == 8 for row in points)


def test_a_lens_that_nobody_knows_is_not_straightened(recording: Path, result: Path, tmp_path: Path) -> None:
    """As in the run, which takes the images as they are."""
    source, folder = open_source(recording), tmp_path / "model"
    source.camera = replace(source.camera, distortion=(0.1,), model="of the moon")
    seen_by = read_camera(result / "camera.json")
    write_colmap(source, Settings(), source.truth(), None, seen_by, folder, lambda count: None)
    assert len(_rows(folder / "sparse" / "0" / "images.txt")) == COUNT
    image = np.asarray(Image.open(folder / "images" / "000001.png"))
    np.testing.assert_array_equal(image, next(source.frames()).image)
    assert source.problems.counts == {"camera_unusable": 1}


def open_source_camera(result: Path):
    from loger_ros.evaluation.report.folder import read_metrics

    return open_source(read_metrics(result)["source"]["path"]).camera


def _rows(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines() if line and not line.startswith("#")]


def test_the_focal_length_is_that_of_the_points() -> None:
    focal = FocalLength()
    assert focal.camera() is None
    v, u = np.meshgrid(np.arange(24), np.arange(32), indexing="ij")
    depth = np.random.default_rng(0).uniform(1, 4, (24, 32))
    points = np.stack([(u - 15.5) / 27 * depth, (v - 11.5) / 27 * depth, depth], -1)
    points[3, 4] = np.nan
    focal.add(points)
    camera = focal.camera()
    assert (camera.width, camera.height) == (32, 24)
    np.testing.assert_allclose(camera.matrix, [[27, 0, 15.5], [0, 27, 11.5], [0, 0, 1]], rtol=1e-6)


def test_what_cannot_be_exported_is_told(
    recording: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.txt").write_text("dear to me")
    for words, said in (
        (["ply", str(recording), str(tmp_path / "x.ply")], "is not a result"),
        (["ply", str(result.parent), str(tmp_path / "x.ply")], f"such as {result}"),
        (["ply", str(tmp_path / "nowhere"), str(tmp_path / "x.ply")], "nowhere does not exist: ply needs"),
        (["ply", str(result), str(tmp_path / "x.pcd")], f"name it {tmp_path / 'x.ply'}, or export pcd"),
        (["pcd", str(result), str(tmp_path / "x.PLY")], f"name it {tmp_path / 'x.pcd'}, or export ply"),
        (["tum", str(result), str(tmp_path / "mine.txt")], "exists"),
        (["kitti", str(recording), str(tmp_path)], "not empty"),
        (["bag", str(recording), str(tmp_path)], "not empty"),
        (["tum", str(tmp_path / "nowhere"), str(tmp_path / "y")], "does not exist"),
    ):
        assert main(["export", *words]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "dear to me"
    with pytest.raises(ValueError, match="does not describe a camera"):
        read_camera(tmp_path / "mine.txt")
