"""Many recordings: failures and kills stay their own, finished work is not done again; runs side by side."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import small_checkpoint
from world_folders import write_kitti_folder

from loger_ros.cli import main
from loger_ros.config import StreamConfig
from loger_ros.evaluation.batch import in_processes
from loger_ros.evaluation.evaluate import SO_FAR, Job, finished_metrics
from loger_ros.evaluation.report.compare import find_runs, method_labels, tables, write_comparison
from loger_ros.evaluation.run import Settings
from loger_ros.evaluation.sources import Choice
from loger_ros.evaluation.sources.formats import MARK
from loger_ros.world import SequenceSpec, generate

SETTINGS = Settings(StreamConfig(chunk_size=4, overlap=1, resolution="32x24"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good sequence and one whose image is broken."""
    folder = tmp_path_factory.mktemp("data")
    sequence = generate(SequenceSpec("street", frames=6, width=40, height=30), seed=4)
    (folder / "sequences").mkdir()
    write_kitti_folder(sequence, folder / "sequences" / "00")
    broken = folder / "sequences" / "01"
    (broken / "image_2").mkdir(parents=True)
    (broken / "times.txt").write_text("0.0\n")
    (broken / "image_2" / "0.png").write_bytes(b"junk")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors", overlap=2)


def test_one_that_fails_does_not_stop_the_rest(
    data: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["eval", "--all", str(data), "--model", str(checkpoint), "--out", str(tmp_path), "--no-pictures"]
    words += ["--resolution", "32x24", "--chunk-size", "4", "--overlap", "1"]
    assert main(words) == 1
    assert caplog.text.count("stream.overlap is 1, but the checkpoint was trained with 2") == 1  # of both
    out = capsys.readouterr().out
    assert "recordings: 2, already finished: 0" in out
    assert "00: 6 of 6 frames posed" in out
    assert "01 failed: SourceError: no frame" in out
    page = (tmp_path / "compare.html").read_text()
    assert "What failed" in page
    written = (tmp_path / "sequences_00" / "metrics.json").stat().st_mtime_ns

    (data / "sequences" / "01" / "times.txt").rename(data / "times.txt")  # now it is a folder of images
    (data / "sequences" / "01" / "image_2" / "0.png").unlink()
    assert main(words) == 0
    assert "recordings: 1, already finished: 1" in capsys.readouterr().out
    assert (tmp_path / "sequences_00" / "metrics.json").stat().st_mtime_ns == written
    assert "What failed" not in (tmp_path / "compare.html").read_text()


def test_a_process_that_is_killed_is_an_outcome(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    jobs = [Job(str(data), tmp_path / str(i), str(checkpoint), SETTINGS) for i in range(2)]

    def kill(frames: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    outcomes = list(in_processes(jobs, 1, kill))
    assert [outcome.job for outcome in outcomes] == jobs
    assert all(outcome.metrics is None and "memory ran out" in outcome.error for outcome in outcomes)


def test_another_checkpoint_of_the_same_name_is_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGER_CHECKPOINTS", str(tmp_path))
    for model in ("tiny", str(tmp_path / "tiny.safetensors")):
        prints = set()
        for content in (b"old", b"newer"):
            (tmp_path / "tiny.safetensors").write_bytes(content)
            prints.add(Job("x", tmp_path, model, SETTINGS).fingerprint)
        assert len(prints) == 2, model
        os.utime(tmp_path / "tiny.safetensors", (1, 1))
        assert Job("x", tmp_path, model, SETTINGS).fingerprint in prints, "as installed on another machine"


def test_a_link_that_leads_elsewhere_is_another_job(tmp_path: Path) -> None:
    prints = set()
    for name in ("monday", "tuesday"):
        link = tmp_path / "latest"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        prints.add(Job(str(link), tmp_path, "tiny", SETTINGS).fingerprint)
    assert len(prints) == 2


def test_a_truth_or_list_that_changed_is_another_job(data: Path, tmp_path: Path) -> None:
    sequence = tmp_path / "data" / "sequences" / "00"
    shutil.copytree(data / "sequences" / "00", sequence)
    truth, beside = tmp_path / "truth.txt", tmp_path / "data" / "poses" / "00.txt"
    (sequence / "mav0" / "cam0").mkdir(parents=True)
    beside.parent.mkdir()
    job = Job(str(sequence), sequence / "eval" / "00", "tiny", SETTINGS, Choice(truth=str(truth)))
    prints = {job.fingerprint}
    (sequence.parent / "calibration").mkdir()
    of_vbr = [sequence.parent / name for name in ("vbr_calib.yaml", "00_gt.txt")]
    of_spires = sequence.parent / "calibration" / "cam0.yaml"
    inside = [sequence / "calib.txt", sequence / "mav0" / "cam0" / "data.csv"]
    for file in (truth, beside, *of_vbr, of_spires, *inside):
        for content in ("1 0 0 0 0 0 0 1\n", "2 0 0 0 0 0 0 1\n\n"):
            file.write_text(content)
            before = len(prints)
            prints.add(job.fingerprint)
            assert len(prints) == before + 1, file
    assert job.fingerprint in prints
    job.folder.mkdir(parents=True)
    for name in (SO_FAR, MARK, "trajectory.txt", "metrics.json"):
        (job.folder / name).write_text("what came of it")
        assert job.fingerprint in prints, "results are no part of the recording"


def test_ray_does_the_same(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    """On a local cluster of two workers."""
    pytest.importorskip("ray")
    from loger_ros.evaluation.ray_engine import with_ray

    sequence = data / "sequences" / "00"
    good = Job(str(sequence), tmp_path / "good", str(checkpoint), SETTINGS, pictures=False)
    jobs = [good, replace(good, source=str(data / "nowhere"))]
    outcomes = {outcome.job: outcome for outcome in with_ray(jobs, 2)}
    assert set(outcomes) == set(jobs)
    assert "does not exist" in outcomes[jobs[1]].error
    assert outcomes[jobs[0]].metrics["frames"]["posed"] == 6
    assert finished_metrics(good) is not None
    assert finished_metrics(replace(good, settings=replace(SETTINGS, every=2))) is None, "other settings"


def run(name: str, rmse: float | None, frames: int = 0, model: str = "/models/loger.pt", **stream) -> dict:
    return {
        "source": {"name": name, "kind": "KITTI odometry"},
        "model": {"name": model},
        "settings": {"stream": {"chunk_size": 32, **stream}, "fast_weights": True, "frames": frames},
        "frames": {"coverage_percent": 100.0},
        **({} if rmse is None else {"ate": {"sim3": {"rmse": rmse}}}),
    }


def test_tables_have_a_row_per_method_and_a_column_per_sequence() -> None:
    runs = [
        run("00", 2.0),
        run("10", 4.0),
        run("02", 6.0),
        run("00", 1.0, chunk_size=64),
        run("10", 5.0, chunk_size=64),
    ]
    runs.append({**run("00", 9.0), "settings": {**run("00", 9.0)["settings"], "fast_weights": False}})
    table = tables(runs)[0]
    assert table.title == "KITTI odometry: ATE after Sim(3), RMSE [m]"
    assert table.columns == ["00", "02", "10", "average"]
    assert dict(table.rows) == {
        "loger, chunk size 32": [2.0, 6.0, 4.0, 4.0],
        "loger, chunk size 64": [1.0, None, 5.0, None],  # no average where a sequence is missing
        "loger, chunk size 32, without fast weights": [9.0, None, None, None],
    }
    assert table.best(0) == 1.0
    assert table.best(1) is None, "alone is not best"
    assert "| **1.000** |" in table.markdown()
    assert tables(runs)[-1].best(0) == 100.0, "of coverage more is better"


def test_a_sequence_without_truth_spoils_no_average() -> None:
    """As KITTI's 11 to 21, which lie beside those that have one."""
    errors, *_, coverage = tables([run("00", 2.0), run("10", 4.0), run("11", None)])
    assert (errors.columns, errors.rows) == (["00", "10", "average"], [("loger", [2.0, 4.0, 3.0])])
    assert coverage.columns == ["00", "10", "11", "average"]
    titles = [table.title for table in tables([run("00", 2.0, 50), run("11", None)])]
    assert [title for title in titles if "ATE" in title] == [
        "KITTI odometry, by length: ATE after Sim(3), RMSE [m]"
    ], "no table without a number"


def test_a_sequence_on_which_all_were_lost_is_left_out_of_no_average() -> None:
    lost = run("10", None)
    lost["frames"]["with_truth"] = 1
    errors = tables([run("00", 2.0), lost])[0]
    assert (errors.columns, errors.rows) == (["00", "10", "average"], [("loger", [2.0, None, None])])


def test_runs_of_several_lengths_get_a_table_by_length() -> None:
    runs = [run("a", 1.0, 50), run("b", 3.0, 50), run("a", 5.0, 100), run("b", 7.0, 100), run("a", 8.0)]
    by_length = {table.title: table for table in tables(runs)}[
        "KITTI odometry, by length: ATE after Sim(3), RMSE [m]"
    ]
    assert by_length.columns == ["50 frames", "100 frames", "all frames", "average"]
    assert by_length.rows[0][1] == [2.0, 6.0, 8.0, pytest.approx(16 / 3)]
    assert method_labels(runs) == ["loger"] * 5


def test_equal_names_of_different_things_are_told_apart() -> None:
    """Only runs of one model, with the same choices, on one recording share a cell, which says so."""

    def seen(path: str, rmse: float, model: str = "tiny", dtype: str = "float32", **choice) -> dict:
        made = run(Path(path).name, rmse, model=model)
        made["source"]["path"], made["model"]["dtype"] = path, dtype
        return made | {"choice": {"truth": f"{path}.txt", "camera": "", "size": [40, 30], **choice}}

    def ate(*runs: dict) -> tuple[list, dict]:
        table = tables(runs)[0]
        return list(table.columns), dict(table.rows)

    columns, rows = ate(
        seen("/data/chess/seq-01", 1.0), seen("/data/fire/seq-01", 3.0), seen("/data/x/02", 5.0)
    )
    assert columns == ["chess/seq-01", "fire/seq-01", "02", "average"]
    assert rows == {"tiny": [1.0, 3.0, 5.0, 3.0]}, "each recording has a truth of its own"
    models = [f"out/{name}/model.safetensors" for name in ("a", "b")]
    assert ate(*(seen("x", 1.0, model) for model in models))[1].keys() == {"a/model", "b/model"}
    assert ate(*(seen("x", 1.0, model) for model in ("m.pt", "m.onnx")))[1].keys() == {"m.pt", "m.onnx"}
    places = seen("/data/kitti/07", 1.0), seen("/mnt/kitti/07", 3.0, "loger")
    assert ate(*places) == (["07", "average"], {"tiny": [1.0, 1.0], "loger": [3.0, 3.0]})
    replays = [seen(f"/bags/{name}", 1.0, f"replay/{name}/trajectory.txt") for name in ("d0", "d1")]
    for replay in replays:
        replay["settings"] = {}
    assert ate(*replays)[1] == {"trajectory": [1.0, 1.0, 1.0]}
    replays.append(replays[0] | {"model": {"name": "other/d0/trajectory.txt"}})
    assert ate(*replays)[1].keys() == {"replay/d0/trajectory", "trajectory", "other/d0/trajectory"}
    choices = [seen("x", 1.0), seen("x", 3.0, camera="image_3"), seen("x", 5.0, size=[80, 60])]
    assert ate(*choices)[1].keys() == {
        "tiny, size 40x30",
        "tiny, camera image_3, size 40x30",
        "tiny, size 80x60",
    }
    assert ate(seen("x", 1.0), seen("x", 3.0, dtype="bfloat16"))[1].keys() == {
        "tiny, dtype float32",
        "tiny, dtype bfloat16",
    }
    assert "| 2.000 (2 runs) | 2.000 |" in tables([seen("x", 1.0), seen("x", 3.0)])[0].markdown()


def test_options_of_many_recordings_are_refused_for_one(capsys: pytest.CaptureFixture) -> None:
    for option in (["--jobs", "2"], ["--engine", "ray"]):
        assert main(["eval", "robot_rooms/0", *option]) == 2
        assert "--all" in capsys.readouterr().err


def test_the_comparison_escapes_and_finds_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    page = write_comparison(tmp_path, [run("<b>", 1.0)], {"<i>": "why & how"})
    text = page.read_text()
    assert "<b>" not in text
    assert "&lt;i&gt;" in text
    assert "| 1.000 |" in (tmp_path / "compare.md").read_text()
    assert find_runs([tmp_path]) == []
    assert main(["eval", "--compare", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    assert main(["eval", "--compare", str(tmp_path / "none")]) == 2
