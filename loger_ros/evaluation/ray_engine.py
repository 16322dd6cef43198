"""The same work on several machines or GPUs, with Ray. Reports go to a folder that all machines share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from loger_ros.evaluation.batch import Outcome, Ticker, try_to_evaluate
from loger_ros.evaluation.evaluate import Job
from loger_ros.evaluation.report.folder import read_metrics
from loger_ros.evaluation.sources import SourceError

HINT = "--engine ray needs Ray: pip install 'ray>=2.9'"


def with_ray(jobs: Sequence[Job], workers: int, tick: Ticker = lambda frames: None) -> Iterator[Outcome]:
    """Run at most ``workers`` jobs at once on the cluster at RAY_ADDRESS, or on this machine if it is unset.

    How far they are with a recording is not known here, so ``tick`` is not called.
    """
    try:
        import ray
    except ImportError as error:
        raise SourceError(HINT) from error
    mine = not ray.is_initialized()
    if mine:
        _join(ray, workers)
    try:
        run = ray.remote(max_retries=0, max_calls=1)(try_to_evaluate)  # one process per job, as without Ray
        waiting = list(jobs)
        running: dict[Any, Job] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                needs: dict[str, Any] = {"num_gpus": 1} if job.device.startswith("cuda") else {"num_cpus": 1}
                running[run.options(**needs).remote(job)] = job
            done, _ = ray.wait(list(running), timeout=1.0)
            for task in done:
                job = running.pop(task)
                try:
                    reason = ray.get(task)
                except ray.exceptions.RayError as lost:
                    reason = f"the worker was lost: {str(lost).splitlines()[0]}"
                yield Outcome(job, None if reason else read_metrics(job.folder), reason)
    finally:
        if mine:
            ray.shutdown()


def _join(ray: Any, workers: int) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
