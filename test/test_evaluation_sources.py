"""Every format on a miniature of it, and what broken files do."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from world_folders import write_kitti_folder, write_tum_folder

from loger_ros.cli.eval import folder_name, sources_of
from loger_ros.evaluation.sources import Choice, SourceError, find_sources, open_source
from loger_ros.evaluation.sources.ahead import read_ahead
from loger_ros.evaluation.sources.base import ORIENTATION, natural, read_image
from loger_ros.world import Sequence, SequenceSpec, generate


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return generate(SequenceSpec("rooms", frames=8, width=40, height=30), seed=4)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def save(folder: Path, names: list[str], images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)


def test_a_folder_as_of_tum(sequence: Sequence, tmp_path: Path) -> None:
    write_tum_folder(sequence, tmp_path / "rgbd_dataset")
    source = open_source(tmp_path / "rgbd_dataset")
    assert (source.kind, len(source)) == ("TUM RGB-D", 8)
    clip = sequence.render()
    frames = list(source.frames())
    assert [frame.stamp for frame in frames] == list(source.stamps) == list(sequence.stamps)
    assert all(
        np.array_equal(frame.image, image) for frame, image in zip(frames, clip.rgb.numpy(), strict=True)
    )
    np.testing.assert_allclose(source.truth().T_map_camera, sequence.T_world_camera, atol=1e-8)
    np.testing.assert_allclose(source.camera.matrix, sequence.camera.matrix(), rtol=1e-8)
    depth = source.depth(frames[3].stamp)
    np.testing.assert_allclose(depth, clip.depth[3].numpy(), atol=2e-4)
    assert source.depth(5) is None
    assert not source.problems.counts


def test_lists_may_begin_with_a_mark_of_their_encoding(sequence: Sequence, tmp_path: Path) -> None:
    write_tum_folder(sequence, tmp_path / "desk")
    for name in ("rgb.txt", "groundtruth.txt"):
        file = tmp_path / "desk" / name
        file.write_text(file.read_text(), encoding="utf-8-sig")
    source = open_source(tmp_path / "desk")
    assert source.stamps == source.truth().stamps == tuple(sequence.stamps)
    write_kitti_folder(sequence, tmp_path / "kitti")
    poses = tmp_path / "poses.txt"
    poses.write_text((tmp_path / "kitti" / "poses.txt").read_text(), encoding="utf-8-sig")
    assert len(open_source(tmp_path / "kitti" / "image_2", Choice(truth=str(poses))).truth()) == 8


def test_a_published_camera_is_known_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "rgbd_dataset_freiburg1_desk"
    save(folder / "rgb", ["1.0.png"], pictures(1, size=(480, 640)))
    (folder / "rgb.txt").write_text(
        "# color images\n# file: 'x.bag'\n# timestamp filename\n1.5 rgb/1.0.png\n"
    )
    source = open_source(folder)
    assert source.stamps == (1_500_000_000,)
    assert source.camera.matrix[0, 0] == 517.3
    assert source.camera.distortion[0] == 0.2624
    assert source.truth() is None


def test_a_folder_as_of_kitti(sequence: Sequence, tmp_path: Path) -> None:
    """Poses are kept beside the sequences, and are those of the left grey camera."""
    folder = tmp_path / "sequences" / "03"
    folder.parent.mkdir()
    write_kitti_folder(sequence, folder)
    (tmp_path / "poses").mkdir()
    (folder / "poses.txt").rename(tmp_path / "poses" / "03.txt")
    lines = (folder / "calib.txt").read_text().splitlines()
    matrix = sequence.camera.matrix()
    shifted = matrix @ np.hstack([np.eye(3), [[0.06], [0.0], [0.0]]])  # camera 2 sits 6 cm to the left
    lines[2] = "P2: " + " ".join(f"{value:.12e}" for value in shifted.reshape(-1))
    (folder / "calib.txt").write_text("\n".join(lines) + "\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    source = open_source(folder)
    assert (source.kind, len(source)) == ("KITTI odometry", 8)
    assert np.diff(source.stamps).tolist() == [100_000_000] * 7
    np.testing.assert_allclose(source.truth().T_map_camera[0, :3, 3], [-0.06, 0, 0], atol=1e-9)
    np.testing.assert_allclose(source.camera.matrix, matrix, atol=1e-9)
    assert np.array_equal(next(source.frames()).image, sequence.render(0, 1).rgb[0])
    with pytest.raises(SourceError, match="image_7"):
        open_source(folder, Choice(camera="image_7"))
    (folder / "calib.txt").unlink()
    assert open_source(folder).problems.counts["no_calibration"] == 1


def test_a_missing_image_shifts_no_other(sequence: Sequence, tmp_path: Path) -> None:
    write_kitti_folder(sequence, tmp_path)
    whole = open_source(tmp_path)
    (tmp_path / "image_2" / "000003.png").unlink()
    source = open_source(tmp_path)
    left = [0, 1, 2, 4, 5, 6, 7]
    assert source.stamps == tuple(whole.stamps[i] for i in left)
    for i, frame in zip(left, source.frames(), strict=True):
        assert np.array_equal(frame.image, sequence.render(i, i + 1).rgb[0])
    assert source.truth().stamps == tuple(whole.stamps)
    (problem,) = source.problems.recent
    assert problem.message.startswith("1 of 8 images are missing, the first is number 3")
    for file in sorted((tmp_path / "image_2").iterdir(), reverse=True):
        file.rename(file.with_stem(f"{int(file.stem) + 1:06d}"))
    assert open_source(tmp_path).problems.counts == {"lengths_differ": 1}, "counted from 1: by their order"


def test_a_folder_of_images_counts_its_numbers(tmp_path: Path) -> None:
    images = pictures(3)
    save(tmp_path, ["frame2.png", "frame10.png", "frame1.png"], images)
    source = open_source(tmp_path, Choice(rate=5))
    assert [np.argmax([np.array_equal(f.image, i) for i in images]) for f in source.frames()] == [2, 0, 1]
    assert source.stamps == (1_000_000_000, 1_200_000_000, 1_400_000_000)
    assert natural("a10b") > natural("a9c")
    assert source.truth() is None
    assert source.depth(1_000_000_000) is None


@pytest.mark.parametrize(("digits", "unit"), [(19, 1), (16, 1000)])
def test_names_that_are_stamps_are_taken_as_such(digits: int, unit: int, tmp_path: Path) -> None:
    stamps = (1_700_000_000_000_000_000, 1_700_000_000_050_000_000)
    save(tmp_path, [f"{str(stamp)[:digits]}.jpg" for stamp in stamps], pictures(2))
    source = open_source(tmp_path)
    assert source.stamps == stamps
    assert not source.problems.counts
    source = open_source(tmp_path, Choice(rate=5))
    assert source.stamps == stamps
    assert source.problems.counts == {"rate_unused": 1}


def test_names_in_seconds_are_taken_to_the_last_digit(tmp_path: Path) -> None:
    images = pictures(3)
    save(tmp_path, [f"1305031102.{digits}.png" for digits in ("5", "175304", "25")], images)
    source = open_source(tmp_path)
    assert source.stamps == (1305031102_175304000, 1305031102_250000000, 1305031102_500000000)
    for i, frame in zip((1, 2, 0), source.frames(), strict=True):
        assert np.array_equal(frame.image, images[i])
    assert not source.problems.counts


@pytest.mark.parametrize("name", ["1305031102.{}0", "170000000000000000{}"])
def test_a_stray_name_among_stamps_is_told(name: str, tmp_path: Path) -> None:
    save(tmp_path, [*(f"{name.format(i)}.png" for i in range(4)), "aaa.png"], pictures(5))
    source = open_source(tmp_path)
    assert source.stamps[0] == 1_000_000_000
    (problem,) = source.problems.recent
    assert problem.message.startswith(f"the name of {tmp_path / 'aaa.png'} is not a stamp")
    (tmp_path / "aaa.png").unlink()
    assert not open_source(tmp_path).problems.counts


@pytest.mark.parametrize("name", [1_700_000_000_000, 170_000_000_000_000_000, 9_700_000_000_000_000_000])
def test_names_of_another_unit_are_told(name: int, tmp_path: Path) -> None:
    save(tmp_path, [f"{name + i}.jpg" for i in range(2)], pictures(2))
    source = open_source(tmp_path, Choice(rate=5))
    assert source.stamps == (1_000_000_000, 1_200_000_000)
    (problem,) = source.problems.recent
    assert "--rate" in problem.message


def test_a_video(tmp_path: Path) -> None:
    file = tmp_path / "way.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 200
    for _ in range(6):
        writer.write(red)
    writer.release()
    source = open_source(file)
    frames = list(source.frames())
    assert (source.kind, len(source), len(frames)) == ("video", 6, 6)
    assert [frame.stamp for frame in frames] == list(source.stamps)
    assert source.stamps[1] - source.stamps[0] == 50_000_000
    slow = open_source(file, Choice(rate=5))
    assert slow.stamps[1] - slow.stamps[0] == 200_000_000
    assert [frame.stamp for frame in slow.frames()] == list(slow.stamps)
    assert frames[0].image[20, 20, 0] > 150 > frames[0].image[20, 20, 2], "red comes first"
    file.write_bytes(b"no video")
    with pytest.raises(SourceError, match="ffmpeg"):
        open_source(file)


def test_a_synthetic_sequence_by_name() -> None:
    source = open_source("robot_rooms/1", Choice(size=(40, 30)))
    assert (source.kind, source.name, len(source)) == ("synthetic", "robot_rooms_1", 600)
    frames = source.frames()
    first = next(frames)
    assert first.image.shape == (30, 40, 3)
    assert len(source.truth()) == 600
    fresh = open_source("robot_rooms/1", Choice(size=(40, 30)))
    np.testing.assert_array_equal(source.depth(first.stamp), fresh.depth(first.stamp))
    assert source.depth(first.stamp + 1) is None
    with pytest.raises(SourceError, match="is not a file, and robot_rooms/1 is not a bag"):
        open_source("robot_rooms/1", Choice(truth="/vicon"))
    for name in ("robot_rooms/9", "robot_roms/0", "robot_rooms/x"):
        with pytest.raises(SourceError, match=r"sequences|exist"):
            open_source(name)


def test_truth_from_a_file_of_its_own(sequence: Sequence, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("1 2 3 4 0 0 0 1\n")
    synthetic = open_source("robot_rooms/1", Choice(truth=str(tmp_path / "own.txt"), size=(40, 30)))
    assert synthetic.truth().T_map_camera[:, :3, 3].tolist() == [[2, 3, 4]]
    write_kitti_folder(sequence, tmp_path / "kitti")
    images = tmp_path / "kitti" / "image_2"
    source = open_source(images, Choice(truth=str(tmp_path / "kitti" / "poses.txt")))
    assert (source.kind, len(source.truth())) == ("image folder", 8)
    assert source.truth().stamps == tuple(source.stamps)
    (tmp_path / "few.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(SourceError, match="1 poses without stamps, but the recording has 8 images"):
        open_source(images, Choice(truth=str(tmp_path / "few.txt")))


def test_what_is_broken_is_told_and_the_rest_is_read(
    sequence: Sequence, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "broken"
    write_tum_folder(sequence, folder)
    files = sorted((folder / "rgb").iterdir())
    files[2].write_bytes(files[2].read_bytes()[:200])  # truncated
    files[4].unlink()
    files[5].write_bytes(b"not an image")
    lines = (folder / "rgb.txt").read_text().splitlines()
    (folder / "rgb.txt").write_text("\n".join([lines[7], *lines[:7]]) + "\n")  # unsorted
    sorted((folder / "depth").iterdir())[0].write_bytes(b"")
    (folder / "groundtruth.txt").write_text("1.0 nonsense\n")
    with caplog.at_level(logging.WARNING):
        source = open_source(folder)
        frames = list(source.frames())
    assert [frame.stamp for frame in frames] == [int(sequence.stamps[i]) for i in (0, 1, 3, 6, 7)]
    assert source.truth() is None
    assert source.depth(frames[0].stamp) is None
    assert source.problems.counts == {
        "unsorted_stamps": 1,
        "unreadable_image": 3,
        "unreadable_truth": 1,
        "unreadable_depth": 1,
    }
    assert "line 1 is not a pose" in caplog.text
    assert files[2].name in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [("1.0\n", "1 columns instead of 2"), ("x rgb/a.png\n", "not a stamp"), ("", "no images")],
)
def test_lists_that_cannot_be_used_are_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rgb.txt").write_text(content)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("orientation", range(10))
def test_photos_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    """As OpenCV turns them."""
    held = Image.Exif()
    held[ORIENTATION] = orientation
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "phone.jpg", quality=100, subsampling=0, exif=held)
    shown = cv2.imread(str(tmp_path / "phone.jpg"))[..., ::-1]
    upright = read_image(tmp_path / "phone.jpg")
    assert upright.shape == shown.shape
    assert np.abs(upright.astype(int) - shown).max() < 10


def test_a_damaged_note_beside_a_photo_does_no_harm(tmp_path: Path) -> None:
    entries = struct.pack("<HHIH2x", ORIENTATION, 3, 1, 6) + struct.pack("<HHIi", 0x0115, 9, 1, -5)
    held = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "phone.jpg", exif=held)
    assert read_image(tmp_path / "phone.jpg").shape == (16, 8, 3)


def test_images_of_every_depth_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "grey16.png")
    assert read_image(tmp_path / "grey16.png").tolist() == np.full((4, 5, 3), 40_000 >> 8).tolist()
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "grey8.png")
    assert read_image(tmp_path / "grey8.png").shape == (4, 5, 3)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(bomb)
    with pytest.raises(SourceError, match="9000x9000"):
        read_image(bomb)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 5), 0.5, np.float32), "fractions"),
        (np.full((4, 5), 100_000, np.int32), "values from 100000 to 100000"),
        (np.full((4, 5), -1, np.int32), "do not fit into 16 bits"),
    ],
)
def test_values_that_are_no_grey_are_refused(pixels: np.ndarray, message: str, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "image.tif")
    with pytest.raises(SourceError, match=message):
        read_image(tmp_path / "image.tif")
    Image.fromarray(np.full((4, 5), 40_000, np.int32)).save(tmp_path / "image.tif")
    assert read_image(tmp_path / "image.tif").max() == 40_000 >> 8


@pytest.mark.parametrize(("highest", "told"), [(4095, 1), (4096, 0)])
def test_images_that_use_few_of_their_bits_are_told_once(highest: int, told: int, tmp_path: Path) -> None:
    for number, level in enumerate((0, highest, 7, 9)):
        Image.fromarray(np.full((4, 5), level, np.uint16)).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    for _ in range(2):
        assert len(list(source.frames())) == 4
    assert source.problems.counts.get("unused_bits", 0) == told
    if told:
        assert "use only 12: their upper 8 are read, so they are dark. Multiply their values by 16" in (
            source.problems.recent[0].message
        )


def test_recordings_below_a_folder_are_found(sequence: Sequence, tmp_path: Path) -> None:
    write_kitti_folder(sequence, tmp_path / "sequences" / "00")
    write_tum_folder(sequence, tmp_path / "desk")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_sources(tmp_path)]
    assert found == ["desk", "sequences/00"], "not their image folders, not their poses"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "linked").symlink_to(tmp_path / "desk")
    (tmp_path / "mine" / "circle").symlink_to(tmp_path / "mine")
    assert list(find_sources(tmp_path / "mine")) == [tmp_path / "mine" / "linked"]
    assert list(find_sources(tmp_path / "empty")) == []
    (tmp_path / "a_latest").symlink_to(tmp_path / "desk")
    names = [path.name for path in find_sources(tmp_path)]
    assert names == ["desk", "00"], "by its own name, which stays what it is"
    with pytest.raises(SourceError, match="not a recording in a known format"):
        open_source(tmp_path / "empty")


def test_a_picture_beside_recordings_hides_none_of_them(
    sequence: Sequence, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tum_folder(sequence, tmp_path / "desk")
    (tmp_path / "monday").mkdir()
    (tmp_path / "monday" / "way.mp4").touch()
    save(tmp_path, ["plan.png"], pictures(1))
    found = [path.relative_to(tmp_path).as_posix() for path in find_sources(tmp_path)]
    assert found == ["desk", "monday/way.mp4"]
    assert f"images directly in {tmp_path} are ignored" in caplog.text
    assert "(desk, monday)" in caplog.text


def test_our_own_pictures_are_no_recording(sequence: Sequence, tmp_path: Path) -> None:
    """Of a result, and of the demo, which has a picture beside its bag."""
    result, demo = tmp_path / "result", tmp_path / "my demo"
    save(result, ["errors.png"], pictures(1))
    (result / "metrics.json").touch()
    with pytest.raises(SourceError, match=r"is a result of loger eval .* give the recording itself"):
        open_source(result)
    (result / "source.txt").write_text("/data/drive\n")
    with pytest.raises(SourceError, match="give /data/drive"):
        open_source(result)
    save(demo, ["picture.png"], pictures(1))
    assert len(open_source(demo)) == 1
    (demo / "bag").mkdir()
    (demo / "bag" / "bag_0.mcap").touch()
    (demo / "bag" / "metadata.yaml").touch()
    with pytest.raises(SourceError, match=rf"give one of those \({demo}/bag\)"):
        open_source(demo)
    save(demo, [f"{i}.png" for i in range(9)], pictures(9))
    assert len(open_source(demo)) == 10, "so many are a recording"


def test_images_with_folders_of_their_own_are_a_recording(tmp_path: Path) -> None:
    save(tmp_path, ["0.png", "1.png"], pictures(2))
    save(tmp_path / "depth", ["0.png", "1.png"], pictures(2))
    save(tmp_path / "eval", ["trajectory.png"], pictures(1))
    (tmp_path / "eval" / "metrics.json").touch()
    (tmp_path / "notes").mkdir()
    assert list(find_sources(tmp_path)) == [tmp_path]
    assert len(open_source(tmp_path)) == 2


def test_here_and_above_have_the_names_of_their_folders(
    sequence: Sequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kitti_folder(sequence, tmp_path / "sequences" / "00")
    for place, text in (("sequences/00", "."), ("sequences/00/image_2", "..")):
        monkeypatch.chdir(tmp_path / place)
        assert open_source(text).name == "00"
        assert folder_name(text) == "sequences_00"
        assert [name for _, name in sources_of(text)] == ["00"]


def test_reading_ahead_keeps_order_errors_and_bounds() -> None:
    made: list[int] = []

    def numbers(fail: bool):
        for i in range(100):
            made.append(i)
            yield i
        if fail:
            raise OSError("disk")

    assert list(read_ahead(numbers(False), 3)) == list(range(100))
    with pytest.raises(OSError, match="disk"):
        list(read_ahead(numbers(True), 3))
    made.clear()
    reader = read_ahead(numbers(False), 3)
    assert next(reader) == 0
    reader.close()
    assert len(made) <= 6, "no further than it was asked to"
