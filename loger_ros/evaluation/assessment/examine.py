"""The examination of a model alone: accuracy, chunks, tails, memory, drift and speed.

Each part returns plain numbers, ready for JSON; ``report`` makes the page.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from loger_ros.evaluation.assessment.assess import assess, drift, ride, score, stream_settings
from loger_ros.evaluation.assessment.films import Film
from loger_ros.evaluation.assessment.scores import ON_WHEELS, Say, only, scores
from loger_ros.evaluation.trajectory import absolute_error, path_length, step_errors
from loger_ros.model import LoGeR
from loger_ros.stream import Reconstructor

CHUNK_SIZES = (2, 3, 4, 6, 8, 12, 16)
GOAL_SIZES = (2, 4, 8)  # sizes at which all sequences are run
LENGTHS = (100, 200, 500, 1000, 2000)
MEMORIES = {  # name → fast weights, sliding window
    "both": (True, True),
    "no fast weights": (False, True),
    "no sliding window": (True, False),
    "neither": (False, False),
}
STEMS = 8  # places in a film where a short tail is tried


def worlds(films: Iterable[Film]) -> dict[str, list[Film]]:
    """The films of robots, judged in metres, and of other motions, judged up to scale."""
    sorted_films: dict[str, list[Film]] = {}
    for film in films:
        sorted_films.setdefault("robot" if film.robot else "6-DoF", []).append(film)
    return sorted_films


def accuracy(model: LoGeR, films: list[Film], say: Say, **changes: Any) -> dict[str, dict[str, Any]]:
    """Scores of the model. Robots are also scored as known to be on wheels."""
    found = {"accuracy": scores(films, partial(assess, model, **changes), "model", say)}
    if films[0].robot:
        judge = partial(assess, model, motion="wheels", **changes)
        found[ON_WHEELS] = scores(films, judge, f"model, {ON_WHEELS}", say)
    return found


def chunk_sizes(
    model: LoGeR,
    films: list[Film],
    some: list[Film],
    say: Say,
    known: dict[str, Any],
    **changes: Any,
) -> dict[str, dict[str, Any]]:
    """Scores by chunk size: of ``some`` of the films at every size, of all films at the sizes of the goal.

    known: what ``accuracy`` has found with the usual chunk size, which is not measured again.
    """
    usual = stream_settings(model, films[0], **changes).chunk_size
    found: dict[str, dict[str, Any]] = {"all": {}, "one of each set": {}}
    for size in CHUNK_SIZES:
        judge = partial(assess, model, **changes | {"chunk_size": size})
        if size not in GOAL_SIZES:
            found["one of each set"][str(size)] = scores(some, judge, f"chunks of {size}", say)
            continue
        whole = known.get("accuracy") if size == usual else None
        whole = whole or scores(films, judge, f"chunks of {size}", say)
        found["all"][str(size)], found["one of each set"][str(size)] = whole, only(whole, some)
        if films[0].robot:
            whole = known.get(ON_WHEELS) if size == usual else None
            name = f"chunks of {size}, {ON_WHEELS}"
            whole = whole or scores(films, partial(judge, motion="wheels"), name, say)
            found.setdefault(f"all, {ON_WHEELS}", {})[str(size)] = whole
    return found


def tails(model: LoGeR, films: list[Film], say: Say, **changes: Any) -> list[dict[str, Any]]:
    """Compare steps at the end of a short last chunk with the same steps in the middle of a stream."""
    rows: dict[int, list[tuple[float, ...]]] = {}
    for film in films:
        settings = stream_settings(model, film, **changes)
        size, overlap = settings.chunk_size, settings.overlap
        if len(film) < 2 * size:
            say(f"tails: {film.name} is left out, because it is too short for chunks of {size} frames")
            continue
        whole = step_errors(ride(model, film, settings).poses, film.T_world_camera)
        for start in np.linspace(0, len(film) - 2 * size, STEMS).astype(int):
            for new in range(1, size - overlap):
                stop = int(start) + size + new
                made = ride(model, film, settings, start=int(start), stop=stop)
                short = step_errors(made.poses, film.T_world_camera[start:stop])
                rows.setdefault(new, []).append(
                    (
                        *(float(errors[-new:].mean()) for errors in short),
                        *(float(errors[stop - 1 - new : stop - 1].mean()) for errors in whole),
                    )
                )
        say(f"tails: {film.name}")
    return [
        {
            "new frames": new,
            "rotation": mean[0],
            "translation": mean[1],
            "rotation in the middle": mean[2],
            "translation in the middle": mean[3],
            "tails": len(values),
        }
        for new, values in sorted(rows.items())
        for mean in [np.mean(values, 0).tolist()]
    ]


def memory(model: LoGeR, films: Iterator[Film], say: Say, **changes: Any) -> dict[str, Any]:
    """Compare runs with and without memory on the same films, and measure how the error grows with length."""
    rows: list[dict[str, Any]] = []
    mode = "se3"
    for film in films:
        mode = "se3" if film.robot else "sim3"
        truth = film.T_world_camera
        path = path_length(truth)
        row: dict[str, Any] = {"film": film.name, "frames": len(film), "path": path}
        for name, (fast_weights, sliding_window) in MEMORIES.items():
            made = ride(
                model,
                film,
                stream_settings(model, film, **changes),
                fast_weights=fast_weights,
                sliding_window=sliding_window,
            ).poses
            row[name] = {
                "ate": 100 * absolute_error(made, truth, mode) / path,
                "end": score(made, truth, metric=film.robot).end,
                "drift": {
                    str(length): drift(made, truth, length, mode) for length in LENGTHS if length <= len(film)
                },
            }
        rows.append(row)
        errors = ", ".join(f"{name} {row[name]['ate']:.2f}" for name in MEMORIES)
        say(f"memory: {film.name}, ATE {mode} in %: {errors}")
    return {"judged": mode, "films": rows, "paired": _paired(rows)} if rows else {}


def speed(model: LoGeR, film: Film, threads: Iterable[int], say: Say, **changes: Any) -> list[dict[str, Any]]:
    """Speed of the whole stream from images in memory: frames/s by the clock and by processor time."""
    rows = []
    before = torch.get_num_threads()
    frames = list(film.frames())
    for count in threads:
        torch.set_num_threads(count)
        stream = Reconstructor.from_config(model, stream_settings(model, film, **changes), keep_results=False)
        for frame in frames[: len(frames) // 4]:  # warm-up
            stream.push(frame)
        stream.reset()
        clock, processor = time.perf_counter(), time.process_time()
        for frame in frames:
            stream.push(frame)
        stream.flush()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        rows.append(
            {
                "threads": count,
                "frames": len(frames),
                "by the clock": len(frames) / clock,
                "per second of one processor": len(frames) / processor,
            }
        )
        say(f"speed: {count} threads, {len(frames) / clock:.0f} frames/s")
    torch.set_num_threads(before)
    return rows


# ---- helpers --------------------------------------------------------------------------------------


def _paired(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean reduction of the error by memory, and its uncertainty by resampling the films."""
    rng = np.random.default_rng(0)
    found = {}
    for name in MEMORIES:
        if name == "both":
            continue
        for measure in ("ate", "end"):
            with_it = np.array([row["both"][measure] for row in rows])
            without = np.array([row[name][measure] for row in rows])
            draws = rng.integers(0, len(rows), (2000, len(rows)))
            reductions = 1 - with_it[draws].mean(1) / np.maximum(without[draws].mean(1), 1e-9)
            low, high = np.quantile(reductions, [0.025, 0.975])
            found[f"{measure}, both against {name}"] = {
                "with": float(with_it.mean()),
                "without": float(without.mean()),
                "reduction": float(1 - with_it.mean() / max(without.mean(), 1e-9)),
                "low": float(low),
                "high": float(high),
                "better": int((with_it < without).sum()),
                "films": len(rows),
            }
    return found
