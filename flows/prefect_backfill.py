"""The Prefect flow of a backfill: shards in a pool of processes, or on Ray.

The work itself is in :mod:`flows.backfill`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows.backfill import BackfillReport, Progress, Wanted
from flows.backfill import backfill as work
from flows.backfill_shard import ShardDone, ShardJob, compute_shard
from flows.prefect_ingest import is_retriable
from flows.prefect_server import one_server
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import parse_plant

Runner = Literal["process", "ray"]


def _say_nothing(_progress: Progress) -> None:
    """Stand in for a watcher where there is none."""


_WATCHER: ContextVar[Callable[[Progress], None]] = ContextVar("watcher", default=_say_nothing)
"""No parameter of the flow: those go to the workers, and a progress bar cannot."""


@task(
    name="shard",
    retries=3,
    retry_delay_seconds=5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def shard(job: ShardJob) -> ShardDone:
    """Work on one shard, wherever the runner puts it."""
    return compute_shard(job)


@flow(name="backfill", persist_result=False, validate_parameters=False)
def backfill(
    plant_file: str,
    wanted: Wanted,
    *,
    settings: Settings | None = None,
) -> BackfillReport:
    """Score what the lake holds of the plant and return what was made."""
    # (Prefect sends the flow itself to the workers: what it touches must bear that.)
    return _work(plant_file, wanted, Settings.load() if settings is None else settings)


def _work(plant_file: str, wanted: Wanted, settings: Settings) -> BackfillReport:
    path = Path(plant_file)
    plant = parse_plant(path.read_text(encoding="utf-8"), origin=path.name)
    report = work(wanted, plant, settings, submit=shard.submit, on_progress=_WATCHER.get())
    get_run_logger().info(
        "%d windows of %s in %s", report.num_windows, plant.address, report.findings_uri
    )
    return report


def run_backfill(
    plant_file: str,
    wanted: Wanted,
    *,
    runner: Runner = "process",
    num_workers: int | None = None,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> BackfillReport:
    """Run the flow with its shards on ``runner`` and return what was made.

    ``num_workers`` None is one for each core; on Ray it is what the cluster has.

    Raises:
        InputError: Ray is not installed.
    """
    chosen = backfill.with_options(task_runner=task_runner(runner, num_workers))
    watching = _WATCHER.set(_say_nothing if on_progress is None else on_progress)
    try:
        with one_server():
            return chosen(plant_file, wanted, settings=settings)
    finally:
        _WATCHER.reset(watching)


def _leave_signals_alone() -> None:
    """Let Ctrl-C reach the main process only: it ends the pool, after the shards in work.

    A worker that is interrupted takes the pool's own thread with it, and nothing ends any more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def task_runner(runner: Runner, num_workers: int | None) -> TaskRunner[Any]:
    """Return the runner of shards.

    Raises:
        InputError: Ray is not installed.
    """
    if runner == "process":
        return ProcessPoolTaskRunner(max_workers=num_workers, initializer=_leave_signals_alone)
    if find_spec("prefect_ray") is None:
        raise InputError(
            "--runner ray must find the packages prefect-ray and ray, and they are not installed; "
            "install industrial-fusion[ray], or leave the option out for a pool of processes"
        )
    from prefect_ray import RayTaskRunner  # noqa: PLC0415 an extra

    return RayTaskRunner(init_kwargs={} if num_workers is None else {"num_cpus": num_workers})
