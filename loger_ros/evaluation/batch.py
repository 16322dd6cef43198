"""Many recordings, each in a process of its own: one that fails, or is killed, does not stop the rest."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loger_ros.evaluation.evaluate import Job, evaluate
from loger_ros.evaluation.report.folder import read_metrics

POLL = 0.1  # s

Ticker = Callable[[int], None]  # gets the number of frames that all running jobs have taken


@dataclass(frozen=True)
class Outcome:
    job: Job
    metrics: dict[str, Any] | None
    error: str = ""


def in_processes(jobs: Sequence[Job], workers: int, tick: Ticker = lambda frames: None) -> Iterator[Outcome]:
    """Run at most ``workers`` jobs at once; yield outcomes in the order in which they finish."""
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    waiting = list(jobs)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Running(context, waiting.pop(0)))
            for each in [each for each in running if each.ended()]:
                running.remove(each)
                yield each.outcome()
            tick(sum(each.frames for each in running))
            time.sleep(POLL)
    finally:
        for each in running:
            each.stop()


class _Running:
    def __init__(self, context: Any, job: Job) -> None:
        self._job = job
        self._frames = context.Value("q", 0)
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(job, self._frames, sender), daemon=True)
        self._process.start()
        sender.close()

    @property
    def frames(self) -> int:
        return int(self._frames.value)

    def ended(self) -> bool:
        return not self._process.is_alive()

    def outcome(self) -> Outcome:
        self._process.join()
        try:
            error = self._receiver.recv() if self._receiver.poll() else _last_words(self._process.exitcode)
        except EOFError:  # it ended without sending anything
            error = _last_words(self._process.exitcode)
        return Outcome(self._job, None if error else read_metrics(self._job.folder), error)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(timeout=5)


def _work(job: Job, frames: Any, sender: Any) -> None:
    """Evaluate in the other process and send what went wrong, or an empty text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its children itself
    sender.send(try_to_evaluate(job, lambda count: setattr(frames, "value", count)))


def try_to_evaluate(job: Job, progress: Callable[[int], None] = lambda frames: None) -> str:
    """Return what went wrong, or an empty text."""
    from loger_ros.model import load_model

    try:
        evaluate(job, load_model(job.model, device=job.device, dtype=job.dtype), progress)
    except Exception as error:  # whatever it is, the other recordings continue
        return f"{type(error).__name__}: {error}"
    return ""


def _last_words(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed from outside, most likely because memory ran out: use fewer --jobs or smaller images"
    if code is not None and code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
