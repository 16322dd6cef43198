"""From a recording to its report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loger_ros.config import CloudConfig, MapConfig, StreamConfig
from loger_ros.evaluation.association import TOLERANCE, associate
from loger_ros.evaluation.measure import CLOUD_THRESHOLD, FEWEST, Matched, measure
from loger_ros.evaluation.report.folder import (
    description,
    problems_of,
    read_metrics,
    refuse_another,
    write_report,
)
from loger_ros.evaluation.run import Progress, Run, Settings, run_of, run_source
from loger_ros.evaluation.sources import Choice, Source, SourceError, kitti, open_source, spires, vbr
from loger_ros.evaluation.sources.formats import MARK, METRICS
from loger_ros.evaluation.sources.images import Video
from loger_ros.events import EventLog
from loger_ros.failures import is_of_gpu, reason_of
from loger_ros.files import sha256_of
from loger_ros.mapping.journal import Journal
from loger_ros.mapping.trajectory_files import read_tum
from loger_ros.model.catalog import NAMES, find_checkpoint

SO_FAR = "trajectory_so_far.txt"
LARGE = 64 << 20  # bytes; reading more would take too long
DESCRIPTIONS = (".txt", ".csv", ".yaml", ".yml")  # of a recording: lists, poses, calibrations
MOST_DESCRIPTIONS = 1000
DEEPEST = 2  # levels of folders below the recording's own that may hold some, such as mav0/cam0


@dataclass(frozen=True)
class Job:
    """One recording to be run; plain values, so that it can be sent to other processes."""

    source: str
    folder: Path
    model: str
    settings: Settings
    choice: Choice = field(default_factory=Choice)
    tolerance: int = TOLERANCE  # ns
    threshold: float = CLOUD_THRESHOLD  # metres
    device: str = "cpu"
    dtype: str = "float32"
    pictures: bool = True

    @property
    def fingerprint(self) -> str:
        """The same for jobs of the same outcome. Size and age stand for recordings and large checkpoints."""
        facts = dataclasses.asdict(replace(self, folder=Path(), pictures=True, device=""))
        if os.path.islink(self.source):  # its target may change
            facts["behind"] = os.path.realpath(self.source)
        facts["files"] = [
            *_told(Path(self.choice.truth)),
            *_told(Path(self.choice.camera_info)),
            *_descriptions(Path(self.source)),
        ]
        file = find_checkpoint(self.model) if self.model in NAMES else Path(self.model)
        if file is not None and file.is_file():
            size, age = file.stat().st_size, file.stat().st_mtime_ns
            facts["file"] = [size, age] if size > LARGE else sha256_of(file)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _descriptions(recording: Path) -> list[list[Any]]:
    """Describe the files that a recording depends on: itself, or those beside its images and its folder."""
    beside = [kitti.benchmark_poses(recording), *vbr.files_beside(recording), *spires.files_beside(recording)]
    found = [told for file in (recording, *beside) for told in _told(file)]
    for place, folders, names in os.walk(recording):
        if {METRICS, MARK, SO_FAR} & set(names):  # the results of a run
            folders.clear()
            continue
        if len(Path(place).relative_to(recording).parts) == DEEPEST:
            folders.clear()
        folders.sort()
        listed = sorted(name for name in names if name.endswith(DESCRIPTIONS))
        for name in listed[:MOST_DESCRIPTIONS]:
            found += _told(Path(place, name))
        if len(found) >= MOST_DESCRIPTIONS:
            break
    return found


def _told(file: Path) -> list[list[Any]]:
    if not file.is_file():
        return []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns]]


def finished_metrics(job: Job) -> dict[str, Any] | None:
    """Return the metrics of exactly this job, if it was run before."""
    metrics = read_metrics(job.folder)
    return metrics if metrics is not None and metrics.get("job") == job.fingerprint else None


def choice_of_run(metrics: dict[str, Any]) -> Choice:
    """Return how the recording of a finished run was opened."""
    try:
        values = dict(metrics["choice"])
        before = values.pop("rate", Choice.rate)  # from an older version, in which videos ignored it
        is_video = metrics.get("source", {}).get("kind") == Video.kind
        values["rate"] = values.pop("given_rate", Choice.rate if is_video else before)
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Choice(**(values | lists))
    except (KeyError, TypeError) as error:
        raise SourceError(f"metrics.json does not say how its recording was opened ({error!r})") from error


def _as_opened(choice: Choice) -> dict[str, Any]:
    """Return the choice with absolute paths, so that files are found from every folder."""
    given = {name: getattr(choice, name) for name in ("truth", "camera_info")}
    found = {name: os.path.abspath(file) for name, file in given.items() if os.path.exists(file)}
    values = dataclasses.asdict(replace(choice, **found))
    return values | {"given_rate": values.pop("rate")}


def settings_of_run(metrics: dict[str, Any]) -> Settings:
    try:
        values = dict(metrics["settings"])
        sections = {"stream": StreamConfig, "cloud": CloudConfig, "map": MapConfig}
        made = {name: kind(**values.pop(name)) for name, kind in sections.items()}
        return Settings(**made, **values)
    except (KeyError, TypeError) as error:
        raise SourceError(f"metrics.json does not hold the settings of its run ({error!r})") from error


def evaluate(
    job: Job, model: Any, progress: Progress = lambda frames: None, source: Source | None = None
) -> dict[str, Any]:
    """Return the metrics, also written to the folder with the rest of the report. source: already opened."""
    refuse_another(job.folder, job.source)
    if source is None:
        source = open_source(job.source, job.choice)
    metrics = description(source, job.source, job.model, job.settings, job.device)
    metrics["model"]["dtype"] = job.dtype
    metrics |= {"choice": _as_opened(job.choice), "job": job.fingerprint}
    with journal_in(job.folder, source.problems) as journal:
        try:
            run = run_source(
                source, model, job.settings, tolerance=job.tolerance, journal=journal, progress=progress
            )
        except RuntimeError as error:
            if not is_of_gpu(error):
                raise
            raise SourceError(f"{reason_of(error)}. The poses so far are in {job.folder / SO_FAR}") from error
        if len(run.trajectory):
            return _reported(job, source, run, metrics)
    raise no_poses(job, source, run)


def no_poses(job: Job, source: Source, run: Run) -> SourceError:
    reasons = "; ".join(f"{item['name']}: {item['message']}" for item in problems_of(source, run))
    return SourceError(f"no frame of {job.source} got a pose. {reasons or 'It has no images'}")


@contextmanager
def journal_in(folder: Path, problems: EventLog) -> Iterator[Journal]:
    """Keep the growing trajectory on disk while the block runs; the file stays if the block is cut off."""
    new = not folder.exists()
    file = folder / SO_FAR
    file.unlink(missing_ok=True)  # from an earlier run that was cut off
    journal = Journal(file, problems)
    try:
        yield journal
    finally:
        journal.close()
    file.unlink(missing_ok=True)
    if new:
        with contextlib.suppress(OSError):  # somebody else put something there
            folder.rmdir()


def judge(job: Job, trajectory: Path) -> dict[str, Any]:
    """Write the same report for a trajectory made elsewhere, such as by a robot or another method."""
    refuse_another(job.folder, job.source)
    source = open_source(job.source, job.choice)
    try:
        made = read_tum(trajectory, source.problems)
    except OSError as error:
        raise SourceError(f"{trajectory} cannot be read: {error.strerror}") from error
    if not len(made):
        raise SourceError(f"{trajectory} has no poses")
    metrics = description(source, job.source, str(trajectory), job.settings, job.device)
    metrics |= {"choice": _as_opened(job.choice), "settings": {}}
    run = run_of(made, tuple(source.stamps))
    if not len(associate(run.stamps, made.stamps, job.tolerance)[0]):
        raise SourceError(
            f"no image of {job.source} has a pose in {trajectory} within {job.tolerance * 1e-6:g} ms: the "
            f"poses are {_span(made.stamps)}, the images {_span(run.stamps)}. Are the stamps of the poses "
            "those of the images? --tolerance widens the search"
        )
    return _reported(job, source, run, metrics, must_compare=True)


def _span(stamps: Sequence[int]) -> str:
    return f"from {min(stamps) * 1e-9:.1f} to {max(stamps) * 1e-9:.1f} s" if stamps else "empty"


def _reported(
    job: Job, source: Source, run: Run, metrics: dict[str, Any], must_compare: bool = False
) -> dict[str, Any]:
    truth, matched = None, None
    try:
        truth = source.truth()
        measured = measure(run, truth, job.tolerance, job.threshold)
        matched = None if truth is None else Matched.of(run.trajectory, truth, job.tolerance)
    except Exception as error:  # a run of hours must not be lost because of its truth
        text = f"no errors are given, since comparing with the truth failed ({type(error).__name__}: {error})"
        if must_compare:
            raise SourceError(text) from error
        source.problems.add("truth_unusable", 0, text)
        measured = measure(run, None, job.tolerance, job.threshold)
    metrics |= measured
    if truth is not None and matched is not None and len(matched) < FEWEST:
        message = (
            f"{len(matched)} poses have a true pose within {job.tolerance * 1e-6:g} ms: no errors are given. "
            f"The truth is {_span(truth.stamps)}, the poses {_span(run.trajectory.stamps)}. Are the stamps "
            "of the truth those of the images? --tolerance widens the search"
        )
        source.problems.add("truth_does_not_match", 0, message)
    metrics["problems"] = problems_of(source, run)
    if run.timing.steps and not len(run.cloud):
        edges = job.settings.cloud.edge_tolerance > 0  # 0 leaves out none
        message = "no point was good enough: lower --cloud-min-confidence"
        message += " or raise --cloud-edge-tolerance" if edges else ""
        metrics["problems"].append({"name": "empty_cloud", "count": 1, "message": message})
    placed = metrics.get("cloud", {}).get("sim3", {})
    if placed and placed["voxel"] > placed["threshold"]:
        message = (
            f"points of the map are {placed['voxel']:.3g} m apart after Sim(3) and cannot show what is "
            f"within {placed['threshold']:g} m: no F-score is given. Lower --map-voxel-size or raise "
            "--cloud-threshold"
        )
        metrics["problems"].append({"name": "voxels_too_coarse", "count": 1, "message": message})
    write_report(job.folder, run, metrics, matched, job.pictures)
    return metrics
