"""From a recording to a folder of numbers and pictures; what the command says when something is missing."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from checkpoints import small_checkpoint
from networks import small_model
from PIL import Image
from world_folders import write_kitti_folder, write_tum_folder

from loger_ros.cli import main
from loger_ros.config import CloudConfig, StreamConfig
from loger_ros.evaluation.evaluate import SO_FAR, Job, evaluate, judge
from loger_ros.evaluation.progress import Line, duration
from loger_ros.evaluation.report.compare import method_labels
from loger_ros.evaluation.report.folder import read_metrics
from loger_ros.evaluation.run import Settings, run_source
from loger_ros.evaluation.sources import Choice, SourceError, open_source
from loger_ros.evaluation.sources.base import ImageFiles
from loger_ros.evaluation.sources.formats import MARK
from loger_ros.mapping.journal import read_journal
from loger_ros.mapping.point_files import read_ply
from loger_ros.mapping.trajectory_files import read_tum, write_tum
from loger_ros.stream import Reconstructor
from loger_ros.types import Frame, Trajectory
from loger_ros.world import SequenceSpec, generate

STREAM = StreamConfig(chunk_size=4, overlap=1, alignment="se3", resolution="32x24")
SETTINGS = Settings(STREAM, CloudConfig(min_confidence=0.0, edge_tolerance=0.0, stride=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "rooms"
    write_tum_folder(generate(SequenceSpec("rooms", frames=15, width=40, height=30), seed=4), folder)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "rooms"
    evaluate(Job(str(folder), out, "small", SETTINGS), small_model().requires_grad_(False))
    return out


def test_the_run_is_the_stream(folder: Path) -> None:
    """No frame dropped, and the poses that pushing the frames by hand gives."""
    model = small_model().requires_grad_(False)
    source = open_source(folder)
    run = run_source(source, model, SETTINGS)
    by_hand = Reconstructor.from_config(model, STREAM)
    for frame in source.frames():
        by_hand.push(frame)
    by_hand.flush()
    expected = by_hand.result().trajectory
    assert run.trajectory.stamps == expected.stamps == tuple(source.stamps)
    np.testing.assert_array_equal(run.trajectory.T_map_camera, expected.T_map_camera)
    again = run_source(source, model, SETTINGS)
    np.testing.assert_array_equal(again.cloud.points, run.cloud.points)
    assert run.delays.max() == pytest.approx(0.3), "the first of four frames waits for three"
    assert run.first_reported.stamps == run.trajectory.stamps
    assert not np.array_equal(run.first_reported.T_map_camera, run.trajectory.T_map_camera)


def test_some_of_the_frames(folder: Path) -> None:
    model = small_model().requires_grad_(False)
    source = open_source(folder)
    run = run_source(source, model, Settings(STREAM, frames=5, every=2))
    assert run.trajectory.stamps == tuple(source.stamps)[0:10:2]


def test_faults_on_the_way_cost_only_what_they_hit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame on which the network fails, a camera that nobody knows, and a disk that is gone."""
    model = small_model().requires_grad_(False)
    source = open_source(folder)
    source.camera = dataclasses.replace(source.camera, distortion=(0.1,), model="of the moon")
    frames, push, count = source.frames, Reconstructor.push, itertools.count()

    def failing_push(self: Reconstructor, frame: Frame) -> list:
        if next(count) == 6:
            raise RuntimeError("cosmic ray")
        return push(self, frame)

    def failing_frames():
        yield from itertools.islice(frames(), 12)
        raise OSError("disk gone")

    monkeypatch.setattr(Reconstructor, "push", failing_push)
    monkeypatch.setattr(source, "frames", failing_frames)
    run = run_source(source, model, SETTINGS)
    assert len(run.stamps) == 12
    assert run.trajectory.stamps == (*source.stamps[:6], *source.stamps[7:12])
    assert run.events.counts == {"camera_unusable": 1, "frame_failed": 1, "reading_failed": 1}


def test_a_lost_gpu_is_a_message_that_names_the_poses_so_far(folder: Path, tmp_path: Path) -> None:
    def fail(frames: int) -> None:
        if frames == 11:
            raise RuntimeError("CUDA error: unknown error\nCompile with TORCH_USE_CUDA_DSA")

    job = Job(str(folder), tmp_path / "out", "small", SETTINGS)
    file = tmp_path / "out" / SO_FAR
    with pytest.raises(SourceError, match=rf"^CUDA error: unknown error: the GPU fails[^\n]*{file}$"):
        evaluate(job, small_model(), fail)
    assert len(read_journal(file)) == 9


def test_a_run_that_is_cut_off_leaves_its_poses(folder: Path, tmp_path: Path) -> None:
    def stop(frames: int) -> None:
        if frames == 11:
            raise KeyboardInterrupt

    job = Job(str(folder), tmp_path / "out", "small", SETTINGS, pictures=False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(job, small_model(), stop)
    assert len(read_journal(tmp_path / "out" / SO_FAR)) == 9, "three chunks of four that share one"
    assert read_metrics(tmp_path / "out") is None
    evaluate(job, small_model())
    assert not (tmp_path / "out" / SO_FAR).exists()
    assert len(read_tum(tmp_path / "out" / "trajectory.txt")) == 15


def test_everything_is_in_the_folder(report: Path, folder: Path) -> None:
    metrics = read_metrics(report)
    assert metrics is not None
    assert metrics["frames"] | {"points": 0} == {
        "taken": 15, "posed": 15, "coverage_percent": 100, "segments": 1, "points": 0, "with_truth": 15,
    }  # fmt: skip
    assert metrics["source"]["kind"] == "TUM RGB-D"
    assert metrics["settings"]["stream"]["chunk_size"] == 4
    assert metrics["ate"]["sim3"]["rmse"] <= metrics["ate"]["se3"]["rmse"] <= metrics["ate"]["none"]["rmse"]
    assert metrics["depth"]["frames"] == 15
    assert len(read_ply(report / "cloud.ply")) == metrics["frames"]["points"] > 0
    assert 0 < metrics["cloud"]["none"]["points"][0] <= metrics["frames"]["points"]
    assert metrics["cloud"]["none"]["accuracy"] > 0
    assert {"rpe", "segments", "auc", "causal", "time", "memory_mb"} <= set(metrics)
    assert len(read_tum(report / "trajectory.txt")) == len(read_tum(report / "truth.txt")) == 15
    for name in (
        "path_top",
        "path_side",
        "errors",
        "drift",
        "timing",
        "cloud_above",
        "cloud_aside",
        "cloud_along",
    ):
        assert Image.open(report / f"{name}.png").width > 300


def test_the_page_needs_nothing_else(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 8
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "Absolute trajectory error" in page
    assert "poses have a true pose within 20 ms" in page
    assert "nan" not in re.sub(r'"data:[^"]*"', "", page).lower()


def test_without_truth_there_are_still_poses(folder: Path, tmp_path: Path) -> None:
    job = Job(str(folder / "rgb"), tmp_path, "small", SETTINGS, pictures=False)
    metrics = evaluate(job, small_model())
    assert "ate" not in metrics
    assert metrics["frames"]["posed"] == 15
    assert "--truth" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("*.png")), "none were asked for"


def test_a_map_too_coarse_for_the_threshold_is_told(folder: Path, tmp_path: Path) -> None:
    metrics = evaluate(
        Job(str(folder), tmp_path, "small", SETTINGS, threshold=0.01, pictures=False), small_model()
    )
    assert [problem["name"] for problem in metrics["problems"]] == ["voxels_too_coarse"]
    assert metrics["cloud"]["none"]["f_score_percent"] is None
    assert "Lower --map-voxel-size or raise --cloud-threshold" in (tmp_path / "report.html").read_text()


def test_nothing_stays_of_an_earlier_run(
    folder: Path, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither files that the new one has not, nor metrics.json beside what is half written."""
    shutil.copytree(report, tmp_path / "out")
    (tmp_path / "out" / MARK).write_text(f"{folder / 'rgb'}\n")
    job = Job(str(folder / "rgb"), tmp_path / "out", "small", SETTINGS, pictures=False)
    with monkeypatch.context() as patch:
        patch.setattr("loger_ros.evaluation.report.folder.write_ply", Mock(side_effect=OSError("full")))
        with pytest.raises(OSError, match="full"):
            evaluate(job, small_model())
    assert read_metrics(tmp_path / "out") is None
    assert len(read_journal(tmp_path / "out" / SO_FAR)) == 15, "the way is there all the same"
    evaluate(job, small_model())
    left = {file.name for file in (tmp_path / "out").iterdir()}
    assert left == {MARK, "metrics.json", "report.html", "trajectory.txt", "first_reported.txt", "cloud.ply"}


def test_a_recording_whose_path_ends_alike_does_not_replace_another(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monday, tuesday = tmp_path / "monday" / "a" / "b", tmp_path / "tuesday" / "a" / "b"
    for day in (monday, tuesday):
        shutil.copytree(folder, day)
    out = ["--out", str(tmp_path / "out"), "--frames", "3", "--no-pictures"]
    assert main(["eval", str(monday), *out]) == 0
    before = (tmp_path / "out" / "a_b" / "metrics.json").read_bytes()
    for command in (["eval", str(tuesday)], ["replay", str(tuesday), "--core"]):
        assert main([*command, *out]) == 2
        assert f"already holds the results of {monday}" in capsys.readouterr().err
    (tmp_path / "out" / "a_b" / MARK).unlink()
    assert main(["eval", str(tuesday), *out]) == 2, "metrics.json says the same"
    assert (tmp_path / "out" / "a_b" / "metrics.json").read_bytes() == before
    assert main(["eval", str(monday), *out]) == 0, "the same one again"


def test_recordings_that_would_share_a_folder_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a/b_c", "a_b/c"):
        shutil.copytree(folder, tmp_path / "all" / name)
    assert main(["eval", "--all", str(tmp_path / "all"), "--out", str(tmp_path / "out")]) == 2
    assert "would both be called a_b_c" in capsys.readouterr().err


def test_a_report_names_its_recording_the_same_from_everywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    metrics = evaluate(Job(folder.name, tmp_path, "small", SETTINGS, pictures=False), small_model())
    assert metrics["source"]["path"] == str(folder)


def test_a_truth_of_another_time_is_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    (tmp_path / "late.txt").write_text("".join(f"9{line}\n" for line in lines if not line.startswith("#")))
    choice = Choice(truth=str(tmp_path / "late.txt"))
    job = Job(str(folder), tmp_path / "out", "small", SETTINGS, choice, pictures=False)
    metrics = evaluate(job, small_model())
    assert [problem["name"] for problem in metrics["problems"]] == ["truth_does_not_match"]
    assert "The truth is from 91.0 to 92.4 s, the poses from 1.0 to 2.4 s" in caplog.text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "--tolerance" in page
    assert "could not be compared with the ground truth: see <code>truth_does_not_match</code>" in page
    assert "There is no ground truth" not in page


def test_a_truth_without_poses_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "truth.txt").write_text("# stamp tx ty tz qx qy qz qw\n")
    words = ["eval", str(folder), "--truth", str(tmp_path / "truth.txt"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert f"{tmp_path / 'truth.txt'} has no poses" in capsys.readouterr().err
    shutil.copytree(folder, tmp_path / "desk")
    (tmp_path / "desk" / "groundtruth.txt").write_text("")
    job = Job(str(tmp_path / "desk"), tmp_path / "out", "small", SETTINGS, pictures=False)
    (problem,) = evaluate(job, small_model())["problems"]
    assert "The truth is empty" in problem["message"], "of the data set itself: the run goes on"


def test_poses_of_another_time_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth = read_tum(folder / "groundtruth.txt")
    late = tuple(stamp + 500 * 10**9 for stamp in truth.stamps)
    write_tum(tmp_path / "late.txt", dataclasses.replace(truth, stamps=late))
    words = ["eval", str(folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--trajectory", str(tmp_path / "late.txt")]) == 2
    said = capsys.readouterr().err
    assert "the poses are from 501.0 to 502.4 s, the images from 1.0 to 2.4 s" in said
    assert not (tmp_path / "out").exists()


def test_a_truth_that_is_a_little_late_also_places_the_true_cloud(folder: Path, tmp_path: Path) -> None:
    truth = read_tum(folder / "groundtruth.txt")
    stamps = tuple(stamp + 40_000_000 for stamp in truth.stamps)
    write_tum(tmp_path / "late.txt", dataclasses.replace(truth, stamps=stamps))
    choice = Choice(truth=str(tmp_path / "late.txt"))
    job = Job(str(folder), tmp_path / "out", "small", SETTINGS, choice, tolerance=45_000_000, pictures=False)
    assert "cloud" in evaluate(job, small_model())


def test_a_truth_in_nanoseconds_is_told_before_the_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "truth.txt").write_text("1403636579763555584 0 0 0 0 0 0 1\n")
    words = ["eval", str(folder), "--truth", str(tmp_path / "truth.txt"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "Are these nanoseconds? Divide nanoseconds by 1e9" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_truth_that_fails_at_the_end_does_not_lose_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truth(self: ImageFiles) -> Trajectory:
        return Trajectory((2**80,), np.eye(4)[None], (0,))

    monkeypatch.setattr(ImageFiles, "truth", truth)
    metrics = evaluate(Job(str(folder / "rgb"), tmp_path, "small", SETTINGS, pictures=False), small_model())
    assert [problem["name"] for problem in metrics["problems"]] == ["truth_unusable"]
    assert read_metrics(tmp_path)["frames"]["posed"] == 15
    words = ["eval", str(folder / "rgb"), "--out", str(tmp_path), "--trajectory"]
    assert main([*words, str(tmp_path / "trajectory.txt")]) == 2, "what is only compared has failed"


def test_a_trajectory_made_elsewhere_is_judged(
    folder: Path, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["eval", str(folder), "--out", str(tmp_path), "--trajectory"]
    assert main([*words, str(report / "trajectory.txt")]) == 0
    assert "15 of 15 frames posed" in capsys.readouterr().out
    (made,) = tmp_path.iterdir()
    metrics, ours = read_metrics(made), read_metrics(report)
    assert metrics["ate"]["se3"]["rmse"] == pytest.approx(ours["ate"]["se3"]["rmse"], abs=1e-7)
    assert "causal" not in metrics
    assert "made elsewhere" in (made / "report.html").read_text()
    assert method_labels([metrics, ours]) == ["trajectory", "small"]
    assert main([*words, str(tmp_path / "nowhere.txt")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_trajectory_that_was_cut_off_is_judged_up_to_there(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "groundtruth.txt").read_text()
    (tmp_path / "made.txt").write_text(whole[:-30])
    metrics = judge(Job(str(folder), tmp_path / "out", "", SETTINGS, pictures=False), tmp_path / "made.txt")
    assert metrics["frames"]["posed"] == 14
    assert [problem["name"] for problem in metrics["problems"]] == ["torn_line"]


def test_of_more_poses_than_images_those_at_images_count(folder: Path, tmp_path: Path) -> None:
    truth = read_tum(folder / "groundtruth.txt")
    stamps = [stamp + late for stamp in truth.stamps[1:] for late in (0, 30_000_000, 60_000_000)]
    many = Trajectory(tuple(stamps), np.repeat(truth.T_map_camera[1:], 3, axis=0), (0,) * len(stamps))
    write_tum(tmp_path / "many.txt", many)
    metrics = judge(Job(str(folder), tmp_path / "out", "", SETTINGS, pictures=False), tmp_path / "many.txt")
    assert (metrics["frames"]["taken"], metrics["frames"]["posed"]) == (15, 14)
    assert metrics["frames"]["coverage_percent"] == pytest.approx(100 * 14 / 15)


def test_a_hole_in_the_truth_is_told(folder: Path, tmp_path: Path) -> None:
    truth = read_tum(folder / "groundtruth.txt")
    write_tum(tmp_path / "made.txt", truth)
    known = [0, 1, 2, 3, 11, 12, 13, 14]
    ends = Trajectory(tuple(truth.stamps[i] for i in known), truth.T_map_camera[known], (0,) * 8)
    write_tum(tmp_path / "ends.txt", ends)
    choice = Choice(truth=str(tmp_path / "ends.txt"))
    job = Job(str(folder), tmp_path / "out", "", SETTINGS, choice, pictures=False)
    assert judge(job, tmp_path / "made.txt")["rpe"]["left_out"] == 1
    assert "steps from frame to frame: 1," in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("tolerance", [0.03, 0.0])
def test_an_empty_map_names_the_settings_that_could_fill_it(
    tolerance: float, folder: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, cloud=CloudConfig(edge_tolerance=tolerance, min_confidence=1.0))
    job = Job(str(folder), tmp_path, "small", settings, pictures=False)
    (said,) = evaluate(job, small_model())["problems"]
    assert "lower --cloud-min-confidence" in said["message"]
    assert ("raise --cloud-edge-tolerance" in said["message"]) == (tolerance > 0), "0 leaves out no edge"


def test_without_matplotlib_the_numbers_are_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    settings = dataclasses.replace(SETTINGS, cloud=CloudConfig())  # no cloud of this network, so no pictures
    metrics = evaluate(Job(str(folder), tmp_path, "small", settings), small_model())
    assert {problem["name"] for problem in metrics["problems"]} == {"no_plots", "empty_cloud"}
    assert "pip install matplotlib" in (tmp_path / "report.html").read_text()


def test_no_readable_image_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no frame .* got a pose"):
        evaluate(Job(str(tmp_path / "images"), tmp_path / "out", "small", SETTINGS), small_model())
    assert not (tmp_path / "out").exists()


def test_no_pose_is_no_replay(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = small_checkpoint(tmp_path / "small.safetensors")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"")
    words = ["replay", str(tmp_path / "images"), "--core", "--model", str(checkpoint)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert re.search(r"no frame .* got a pose. unreadable_image", said.err)
    assert not said.out


def test_what_is_no_report_is_not_read(tmp_path: Path) -> None:
    for content in ("", "[]", "{", '{"frames": {}, "source": {}, "model": 1, "settings": {}}'):
        (tmp_path / "metrics.json").write_text(content)
        assert read_metrics(tmp_path) is None
    assert read_metrics(tmp_path / "nowhere") is None


def test_the_command_names_what_is_wrong(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", "--out", str(tmp_path)]) == 2
    assert "loger eval SOURCE" in capsys.readouterr().err
    assert main(["eval", str(folder), "--model", str(tmp_path / "none.pt"), "--out", str(tmp_path)]) == 2
    assert "none.pt" in capsys.readouterr().err
    assert main(["eval", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    for rate in ("0", "-5", "nan", "fast"):
        with pytest.raises(SystemExit, match="2"):
            main(["eval", str(folder), "--rate", rate])
        assert "expected a rate of 0.001 to 10000 Hz" in capsys.readouterr().err


def test_what_a_recording_lacks_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    write_kitti_folder(
        generate(SequenceSpec("rooms", frames=4, width=40, height=30), seed=4), tmp_path / "00"
    )
    (tmp_path / "00" / "calib.txt").unlink()
    checkpoint = small_checkpoint(tmp_path / "small.safetensors", chunk_size=4, resolution="32x24")
    words = ["--model", str(checkpoint), "--out", str(tmp_path / "out"), "--no-pictures"]
    assert main(["eval", str(tmp_path / "00"), *words]) == 0
    assert sum("no_calibration" in record.message for record in caplog.records) == 1
    capfd.readouterr()
    assert main(["eval", "--all", str(tmp_path), *words, "--again"]) == 0
    assert sum("no_calibration" in record.message for record in caplog.records) == 1
    assert capfd.readouterr().err.count("no_calibration") == 1, "by the process that runs it"


def test_the_command_writes_a_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = small_checkpoint(tmp_path / "small.safetensors", alignment="se3", overlap=3)
    words = ["eval", str(folder), "--model", str(checkpoint), "--out", str(tmp_path)]
    words += ["--resolution", "32x24"]
    assert main([*words, "--chunk-size", "5", "--overlap", "2", "--no-fast-weights", "--no-pictures"]) == 0
    assert "15 of 15 frames" in capsys.readouterr().out
    metrics = json.loads((tmp_path / f"{folder.parent.name}_rooms" / "metrics.json").read_text())
    stream = metrics["settings"]["stream"]
    assert (stream["chunk_size"], stream["overlap"]) == (5, 2), "what was said wins"
    assert stream["alignment"] == "se3", "else what the checkpoint recommends"
    assert metrics["settings"]["fast_weights"] is False
    assert main([*words, "--chunk-size", "5", "--overlap", "5"]) == 2
    assert "less than stream.chunk_size" in capsys.readouterr().err


def test_time_left_is_told_in_words() -> None:
    assert [duration(seconds) for seconds in (5, 65, 3661)] == ["5 s", "1 min 05 s", "1 h 01 min"]
    assert Line("x", 100).text(25, 10.0) == "25 of 100 frames, 2.5/s, 30 s left"
