"""The Prefect flow that keeps the lake up to date. The work itself is in :mod:`flows.ingest`.

One run copies what the broker held when it began, batch by batch, and ends: an endless stream does
not belong into a flow. Schedule it as often as the lake must be fresh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from flows import wiring
from flows.ingest import IngestReport, ingest_once
from flows.settings import Settings
from fusion.errors import FusionError
from fusion.plant import parse_plant

GROUP = "ingest"


def is_retriable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether the failure in ``state`` can pass without anybody changing anything."""
    return isinstance(state.data, FusionError) and state.data.retriable


@task(
    retries=5,
    retry_delay_seconds=exponential_backoff(backoff_factor=1),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def ingest_batch(
    settings: Settings, topics: tuple[str, ...], max_records: int, max_seconds: float
) -> IngestReport:
    """Copy one micro-batch of ``topics`` into the lake and return what was done."""
    source = wiring.open_source(settings, topics, GROUP)
    try:
        report = ingest_once(
            source,
            wiring.open_lake(settings),
            max_records=max_records,
            max_seconds=max_seconds,
            clock=wiring.open_clock(),
        )
    finally:
        source.close()
    for lost in report.lost:
        get_run_logger().warning("not in the lake: %s", lost)
    for topic, num_read in report.num_read.items():
        get_run_logger().info(
            "%s: %d read, %d offsets skipped, %d left",
            topic,
            num_read,
            report.num_offsets_skipped[topic],
            report.num_left[topic],
        )
    return report


@flow(name="ingest", persist_result=False)
def ingest(
    plant_file: str,
    *,
    settings: Settings | None = None,
    max_records: int = 100_000,
    max_seconds: float = 60.0,
    max_batches: int = 1_000,
) -> int:
    """Copy what the broker holds of the plant into the lake; return how many records were new.

    ``settings`` None takes them from the environment. Without ``max_batches`` a plant that sends
    faster than the lake takes would keep one run alive for ever.
    """
    where = Settings.load() if settings is None else settings
    path = Path(plant_file)
    plant = parse_plant(path.read_text(encoding="utf-8"), origin=path.name)
    num_stored = 0
    for _ in range(max_batches):
        report = ingest_batch(where, plant.sense_topics, max_records, max_seconds)
        num_stored += report.num_stored
        if report.is_complete:
            break
    get_run_logger().info("%d new records of %s are in the lake", num_stored, plant.prefix)
    return num_stored
