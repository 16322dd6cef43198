"""What is no recording but nearly one: the message names cause and cure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loger_ros.evaluation.sources import SourceError, open_source

METADATA = "rosbag2_bagfile_information: {relative_file_paths: [drive_0.mcap]}\n"


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(file)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(path)
    return str(caught.value).removeprefix(f"{path} is not a recording in a known format: ")


def test_folders_without_a_recording_of_their_own(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "it is empty"
    (tmp_path / "notes.doc").touch()
    assert refusal(tmp_path).startswith("expected VBR, bag, ")
    picture(tmp_path / "a" / "0.png")
    assert refusal(tmp_path) == f"it contains a recording; give {tmp_path / 'a'}"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "way.mp4").touch()
    assert f"give one ({tmp_path / 'a'}, {tmp_path / 'b' / 'way.mp4'}) or all" in refusal(tmp_path)
    assert refusal(tmp_path / "b") == f"give the file itself: {tmp_path / 'b' / 'way.mp4'}"


def test_a_file_of_a_recording(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    for name in ("0.png", "list.txt", "metadata.yaml"):
        (tmp_path / name).touch()
        assert refusal(tmp_path / name) == f"it is a single file; give its folder {tmp_path}"
    (tmp_path / "images.zip").touch()
    assert refusal(tmp_path / "images.zip").startswith("expected VBR, bag, ")


@pytest.mark.parametrize(("folder", "missing"), [("image_3", "times.txt"), ("rgb", "rgb.txt")])
def test_a_sequence_without_its_list(folder: str, missing: str, tmp_path: Path) -> None:
    picture(tmp_path / folder / "0.png")
    said = refusal(tmp_path)
    assert said.startswith(f"it has {folder} but no {missing}")
    assert said.endswith(str(tmp_path / folder))


def test_halves_of_a_bag(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text(METADATA)
    assert (
        refusal(tmp_path)
        == "its metadata.yaml names files that are missing (drive_0.mcap); is the copy complete?"
    )
    assert refusal(tmp_path / "metadata.yaml") == f"it is a single file; give its folder {tmp_path}"
    (tmp_path / "metadata.yaml").unlink()
    (tmp_path / "drive_0.mcap").touch()
    said = refusal(tmp_path)
    assert f"Give the file itself ({tmp_path / 'drive_0.mcap'})" in said
    assert f"`ros2 bag reindex {tmp_path}`" in said
