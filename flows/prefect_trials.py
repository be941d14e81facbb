"""The Prefect flow of trials of a recipe: in a pool of processes, or on Ray.

The work itself is in :mod:`flows.trials`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.prefect_backfill import Runner, task_runner
from flows.prefect_ingest import is_retriable
from flows.settings import Settings
from flows.trials import (
    MAX_TRAIN_S,
    Trial,
    TrialJob,
    jobs_of,
    ranked,
    require_memory,
    rows_of,
    run_trial,
)
from fusion.training import recipe_named


@task(
    name="trial",
    retries=3,
    retry_delay_seconds=5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def trial(job: TrialJob) -> Trial:
    """Train one trial, wherever the runner puts it."""
    return run_trial(job)


@flow(name="trials-on-workers", persist_result=False, validate_parameters=False)
def _on_workers(jobs: list[TrialJob]) -> list[Trial]:
    return [each.result() for each in [trial.submit(job) for job in jobs]]


@flow(name="trials", persist_result=False, validate_parameters=False)
def trials(
    plant_file: str,
    changes: list[dict[str, Any]],
    recipe: str = "standard",
    *,
    seed: int = 0,
    steps: int | None = None,
    gauge: str = "rankme",
    runner: Runner = "process",
    num_workers: int | None = None,
    max_train_s: float = MAX_TRAIN_S,
    settings: Settings | None = None,
) -> list[Trial]:
    """Train ``recipe`` with each of ``changes`` on the same data; return them, the best first.

    ``gauge`` is what they are compared by. ``num_workers`` None is one for each core; on Ray it is
    what the cluster has. They learn
    from the newest ``max_train_s`` seconds, and each holds them in memory.
    """
    where = Settings.load() if settings is None else settings
    chosen = recipe_named(recipe, seed=seed, steps=steps)
    jobs = jobs_of(Path(plant_file), chosen, changes, where, max_train_s=max_train_s)
    if runner == "process":
        require_memory(jobs, at_once=num_workers or os.cpu_count() or 1)
    on_workers = _on_workers.with_options(task_runner=task_runner(runner, num_workers))
    found = ranked(on_workers(jobs), gauge)
    for row in rows_of(found, gauge):
        get_run_logger().info("%s", row)
    create_table_artifact(rows_of(found, gauge), description=f"Trials of {recipe}, by {gauge}")
    return found
