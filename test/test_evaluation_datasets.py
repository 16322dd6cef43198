"""Published data sets, each as a miniature in exactly its layout: poses must come out as the camera's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from loger_ros.evaluation.sources import Choice, SourceError, open_source
from loger_ros.geometry import exp_rotation, inverse, quaternion, transform
from loger_ros.mapping.trajectory_files import stamp_text

COUNT = 4
STAMPS = [1_403_636_579_763_555_584 + i * 50_000_000 for i in range(COUNT)]
RNG = np.random.default_rng(5)
PICTURES = RNG.integers(0, 256, (COUNT, 30, 40, 3), dtype=np.uint8)
T_WORLD_CAMERA = transform(exp_rotation(RNG.normal(size=(COUNT, 3))), RNG.normal(size=(COUNT, 3)))
T_BODY_CAMERA = transform(exp_rotation(np.array([0.3, -1.2, 0.5])), np.array([0.1, -0.2, 0.3]))
T_WORLD_BODY = T_WORLD_CAMERA @ inverse(T_BODY_CAMERA)


def save(folder: Path, names: list[str], images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)


def tum_rows(poses: np.ndarray, stamps: list[int]) -> str:
    rows = np.concatenate([poses[:, :3, 3], quaternion(poses[:, :3, :3])], 1)
    return "".join(
        f"{stamp_text(stamp)} {' '.join(f'{number:.12f}' for number in row)}\n"
        for stamp, row in zip(stamps, rows, strict=True)
    )


def check(source, kind: str, stamps: list[int]) -> None:
    frames = list(source.frames())
    assert source.kind == kind
    assert len(source) == len(frames) == COUNT
    assert [frame.stamp for frame in frames] == list(source.stamps) == stamps
    assert np.array_equal(frames[2].image, PICTURES[2])
    truth = source.truth()
    assert list(truth.stamps) == stamps
    np.testing.assert_allclose(truth.T_map_camera, T_WORLD_CAMERA, atol=1e-9)
    assert not source.problems.counts


def recorded_by_mav(mav: Path, truth: str) -> None:
    """Images and truth; the poses are of the IMU, the quaternion begins with w."""
    save(mav / "cam0" / "data", [f"{stamp}.png" for stamp in STAMPS], PICTURES)
    lines = "".join(f"{stamp},{stamp}.png\r\n" for stamp in STAMPS)
    (mav / "cam0" / "data.csv").write_text("#timestamp [ns],filename\r\n" + lines)
    rows = np.concatenate([T_WORLD_BODY[:, :3, 3], quaternion(T_WORLD_BODY[:, :3, :3])[:, [3, 0, 1, 2]]], 1)
    text = (
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"
    )
    for stamp, row in zip(STAMPS, rows, strict=True):
        text += f"{stamp},{','.join(f'{number:.12f}' for number in row)},0.1,0.2,0.3,0,0,0,0,0,0\n"
    (mav / truth).mkdir()
    (mav / truth / "data.csv").write_text(text)


def test_euroc(tmp_path: Path) -> None:
    mav = tmp_path / "MH_01_easy" / "mav0"
    recorded_by_mav(mav, "state_groundtruth_estimate0")
    mount = ", ".join(f"{number:.12f}" for number in T_BODY_CAMERA.reshape(-1))
    (mav / "cam0" / "sensor.yaml").write_text(
        "# General sensor definitions.\nsensor_type: camera\ncomment: VI-Sensor cam0 (MT9M034)\n\n"
        f"T_BS:\n  cols: 4\n  rows: 4\n  data: [{mount}]\n\nrate_hz: 20\nresolution: [40, 30]\n"
        "camera_model: pinhole\nintrinsics: [458.654, 457.296, 367.215, 248.375] #fu, fv, cu, cv\n"
        "distortion_model: radial-tangential\n"
        "distortion_coefficients: [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05]\n"
    )
    source = open_source(tmp_path / "MH_01_easy")
    check(source, "EuRoC", STAMPS)
    assert source.name == "MH_01_easy"
    assert (source.camera.model, source.camera.distortion[0]) == ("plumb_bob", -0.28340811)
    assert open_source(mav).name == "MH_01_easy"
    with pytest.raises(SourceError, match="choose from cam0"):
        open_source(mav, Choice(camera="cam9"))
    (mav / "cam0" / "sensor.yaml").write_text("T_BS: nothing\n")
    bare = open_source(mav)
    assert bare.camera is None
    assert bare.problems.counts == {"no_calibration": 1}
    np.testing.assert_allclose(bare.truth().T_map_camera, T_WORLD_BODY, atol=1e-9)


def test_tum_vi(tmp_path: Path) -> None:
    """In EuRoC's layout, but calibrated by Kalibr's file beside it: its transform leads to the camera."""
    sequence = tmp_path / "dataset-room1_512_16"
    recorded_by_mav(sequence / "mav0", "mocap0")
    camera = {
        "T_cam_imu": inverse(T_BODY_CAMERA).tolist(),
        "camera_model": "pinhole",
        "distortion_coeffs": [0.0034, 0.0008, -0.0005, 0.0001],
        "distortion_model": "equidistant",
        "intrinsics": [190.98, 190.97, 254.93, 256.9],
        "resolution": [40, 30],
    }
    (sequence / "dso").mkdir()
    (sequence / "dso" / "camchain.yaml").write_text(yaml.safe_dump({"cam0": camera, "cam1": camera}))
    for place in (sequence, sequence / "mav0"):
        source = open_source(place)
        check(source, "EuRoC", STAMPS)
        assert source.name == sequence.name
        assert (source.camera.model, source.camera.distortion[0]) == ("equidistant", 0.0034)
    (sequence / "dso" / "camchain.yaml").write_text("cam1: {T_cam_imu: [1, 2]}\n")
    assert open_source(sequence).problems.counts == {"no_calibration": 1}


def test_7_scenes(tmp_path: Path) -> None:
    folder = tmp_path / "chess" / "seq-01"
    save(folder, [f"frame-{i:06d}.color.png" for i in range(COUNT)], PICTURES)
    depth = np.full((COUNT, 30, 40), 1500, np.uint16)
    depth[:, 0, 0] = 65535
    save(folder, [f"frame-{i:06d}.depth.png" for i in range(COUNT)], depth)
    for i, pose in enumerate(T_WORLD_CAMERA):
        rows = "".join("\t ".join(f"{number:.12e}" for number in row) + "\t \n" for row in pose)
        (folder / f"frame-{i:06d}.pose.txt").write_text(rows)
    source = open_source(folder)
    stamps = [1_000_000_000 + round(i * 1e9 / 30) for i in range(COUNT)]
    check(source, "7-Scenes", stamps)
    seen = source.depth(stamps[1])
    assert np.isnan(seen[0, 0])
    assert (seen[1:] == 1.5).all()


def test_depth_of_7_scenes_is_seen_by_the_colour_camera(tmp_path: Path) -> None:
    """585 pixels are the published focal length of the depth camera, 525 that of colour."""
    save(tmp_path, ["frame-000000.color.png"], np.zeros((1, 480, 640, 3), np.uint8))
    rows, columns = np.indices((480, 640))
    across = 1 + (columns - 320) / 585 + (rows - 240) / 1170  # metres: tells where the depth camera looks
    save(tmp_path, ["frame-000000.depth.png"], np.round(1000 * across[None]).astype(np.uint16))
    (tmp_path / "frame-000000.pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    source = open_source(tmp_path)
    assert source.camera.matrix[0].tolist() == [525, 0, 320]
    seen = source.depth(source.stamps[0])
    assert seen.shape == (480, 640)
    inside = np.isfinite(seen)
    expected = 1 + (columns - 320) / 525 + (rows - 240) / 1050
    np.testing.assert_allclose(seen[inside], expected[inside], atol=2 / 585)
    assert np.isnan(seen[:, :32]).all(), "the depth camera sees less"
    assert inside[240, 40:600].all()


def test_scannet(tmp_path: Path) -> None:
    """Frames are numbered without leading zeros; where tracking was lost the pose is infinite."""
    folder = tmp_path / "scene0000_00"
    save(folder / "color", [f"{i}.png" for i in (9, 10, 11, 12)], PICTURES)
    save(folder / "depth", [f"{i}.png" for i in (9, 10, 11, 12)], np.full((COUNT, 15, 20), 2000, np.uint16))
    (folder / "pose").mkdir()
    for i, pose in zip((9, 10, 11, 12), T_WORLD_CAMERA, strict=True):
        np.savetxt(folder / "pose" / f"{i}.txt", pose, fmt="%.12f")
    (folder / "intrinsic").mkdir()
    matrix = np.diag([1170.2, 1170.2, 1.0, 1.0])
    matrix[:2, 2] = 647.75, 483.75
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", matrix, fmt="%f")
    stamps = [1_000_000_000 + round(i * 1e9 / 30) for i in (9, 10, 11, 12)]
    source = open_source(folder)
    check(source, "ScanNet", stamps)
    assert source.camera.matrix[0, 2] == 647.75
    assert source.depth(stamps[0])[3, 4] == 2
    np.savetxt(folder / "pose" / "11.txt", np.full((4, 4), -np.inf))
    lost = open_source(folder)
    assert list(lost.truth().stamps) == [stamps[0], stamps[1], stamps[3]]
    assert lost.problems.counts == {"no_pose": 1}


INFO = """m_versionNumber = 4
m_colorWidth = 40
m_colorHeight = 30
m_depthWidth = 20
m_depthHeight = 15
m_depthShift = 500
m_calibrationColorIntrinsic = 36.5 0 20.2 0 0 36 15.1 0 0 0 1 0 0 0 0 1
m_calibrationColorExtrinsic = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1
"""


@pytest.mark.parametrize(("ending", "info"), [("pgm", "_info.txt"), ("png", "../info.txt")])
def test_frames_as_sensreader_writes_them(tmp_path: Path, ending: str, info: str) -> None:
    folder = tmp_path / "scene" / "data"
    folder.mkdir(parents=True)
    names = [f"frame-{i:06d}" for i in range(COUNT)]
    save(folder, [f"{name}.color.jpg" for name in names], PICTURES)
    for i, (name, pose) in enumerate(zip(names, T_WORLD_CAMERA, strict=True)):
        depth = np.full((15, 20), 1000 + i, np.uint16)
        depth[0, 0] = 0
        if ending == "pgm":
            (folder / f"{name}.depth.pgm").write_bytes(b"P5 20 15 65535\n" + depth.astype(">u2").tobytes())
        else:
            Image.fromarray(depth).save(folder / f"{name}.depth.png")
        np.savetxt(folder / f"{name}.pose.txt", pose, fmt="%.12f")
    (folder / info).write_text(INFO)
    source = open_source(folder)
    assert source.kind == "SensReader frames"
    assert len(source) == COUNT
    np.testing.assert_allclose(source.truth().T_map_camera, T_WORLD_CAMERA, atol=1e-9)
    assert source.camera.matrix[:2].tolist() == [[36.5, 0, 20.2], [0, 36, 15.1]]
    seen = source.depth(source.stamps[1])
    assert np.isnan(seen[0, 0])
    np.testing.assert_allclose(seen[1:], 1001 / 500)
    assert not source.problems.counts
    for other in (INFO.replace("Width = 40", "Width = 80"), "m_colorWidth = 40\n"):
        (folder / info).write_text(other)
        bare = open_source(folder)
        assert bare.camera is None
        assert bare.problems.counts == {"no_calibration": 1}


def calibration_of_vbr(folder: Path) -> None:
    camera = {
        "intrinsics": [900.0, 901.0, 20.0, 15.0],
        "distortion_coeffs": [-0.1, 0.02, 0.0, 0.0],
        "resolution": [40, 30],
        "T_b": T_BODY_CAMERA.tolist(),
        "topic": "/camera_left/image_raw",
    }
    (folder / "vbr_calib.yaml").write_text(yaml.safe_dump({"cam_l": camera, "cam_r": camera}))
    text = "#timestamp tx ty tz qx qy qz qw\n" + tum_rows(T_WORLD_BODY, STAMPS)
    (folder / f"{folder.name}_gt.txt").write_text(text)


def test_vbr_as_its_kit_converts_it(tmp_path: Path) -> None:
    published, converted = tmp_path / "spagna_train0", tmp_path / "spagna_train0_kitti"
    published.mkdir()
    calibration_of_vbr(published)
    save(converted / "camera_left" / "data", [f"{i:010d}.png" for i in range(COUNT)], PICTURES)
    times = "".join(f"{np.datetime64(stamp, 'ns')}\n" for stamp in STAMPS)
    (converted / "camera_left" / "timestamps.txt").write_text(times)
    source = open_source(converted)
    check(source, "VBR", STAMPS)
    assert source.camera.distortion[0] == -0.1
    (published / "vbr_calib.yaml").unlink()
    assert open_source(converted).problems.counts == {"no_calibration": 1}


def test_vbr_as_it_is_published(tmp_path: Path) -> None:
    """One recording split over several ROS 1 bags, its images in Bayer's pattern."""
    rosbag1 = pytest.importorskip("rosbags.rosbag1")
    from rosbags.typesys import Stores, get_typestore

    folder = tmp_path / "campus_train0"
    folder.mkdir()
    calibration_of_vbr(folder)
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "sensor_msgs/msg/Image"
    header, time = store.types["std_msgs/msg/Header"], store.types["builtin_interfaces/msg/Time"]
    for part in range(2):
        with rosbag1.Writer(folder / f"campus_train0_{part:02d}.bag") as writer:
            connection = writer.add_connection("/camera_left/image_raw", kind, typestore=store)
            for i in (2 * part, 2 * part + 1):
                head = header(i, time(*divmod(STAMPS[i], 10**9)), "cam_l")
                grey = np.full((30, 40), 50 * i, np.uint8)
                image = store.types[kind](head, 30, 40, "bayer_rggb8", 0, 40, grey.reshape(-1))
                writer.write(connection, STAMPS[i], store.serialize_ros1(image, kind))
    source = open_source(folder)
    assert (source.kind, source.name, len(source)) == ("VBR", "campus_train0", COUNT)
    frames = list(source.frames())
    assert [frame.stamp for frame in frames] == STAMPS
    assert [int(frame.image.mean()) for frame in frames] == [0, 50, 100, 150]
    np.testing.assert_allclose(source.truth().T_map_camera, T_WORLD_CAMERA, atol=1e-9)
    assert source.camera.matrix[1, 1] == 901


def test_oxford_spires(tmp_path: Path) -> None:
    """The truth is of a base below the lidar; calibration lies beside the sequences."""
    T_base_lidar = np.array([[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0.124], [0, 0, 0, 1.0]])
    T_camera_lidar = inverse(T_BODY_CAMERA)  # so the body is the lidar
    T_world_base = T_WORLD_BODY @ inverse(T_base_lidar)
    sequence = tmp_path / "sequences" / "2024-03-12-keble-college-02"
    save(sequence / "raw" / "cam0", [f"{stamp_text(stamp)}.png" for stamp in STAMPS], PICTURES)
    (sequence / "processed" / "trajectory").mkdir(parents=True)
    text = "# timestamp tx ty tz qx qy qz qw\n" + tum_rows(T_world_base, STAMPS)
    (sequence / "processed" / "trajectory" / "gt-tum.txt").write_text(text)
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    intrinsics = {
        "image_width": 40,
        "image_height": 30,
        "camera_matrix": {"rows": 3, "cols": 3, "data": [698.1, 0, 20.0, 0, 698.5, 15.0, 0, 0, 1]},
        "distortion_model": "equidistant",
        "distortion_coefficients": {"rows": 1, "cols": 4, "data": [-0.041, -0.0024, 0.0034, -0.0018]},
    }
    (calibration / "cam0.yaml").write_text(yaml.safe_dump(intrinsics))
    extrinsics = {"cam0": {"T_cam_lidar": T_camera_lidar.tolist(), "rostopic": "/alphasense_driver_ros/cam0"}}
    (calibration / "cam-lidar-imu.yaml").write_text(yaml.safe_dump(extrinsics))
    source = open_source(sequence)
    check(source, "Oxford Spires", STAMPS)
    assert source.camera.model == "equidistant"
    (calibration / "cam-lidar-imu.yaml").write_text("cam0: {T_cam_lidar: [1, 2]}\n")
    assert open_source(sequence).problems.counts == {"no_calibration": 1}
    with pytest.raises(SourceError, match="cam0, cam1, cam2"):
        open_source(sequence, Choice(camera="cam5"))
