"""Bare kafka-python: reads the bytes with the product's own consumer and does nothing with them."""

from __future__ import annotations

from typing import Any

from benchmarks.stream.chain import POLL_TIMEOUT_S
from benchmarks.stream.jobs import Job, measure
from flows import wiring
from flows.settings import Settings


def main() -> None:
    """Run the job of the command line."""
    job = Job.from_command_line()
    settings = Settings(broker="kafka", kafka_bootstrap=job.bootstrap)
    source: Any = wiring.open_source(settings, job.topics, job.group)
    # The product's own consumer, so that both read with the same settings whatever these are.
    consumer = source._consumer  # noqa: SLF001
    timeout_ms = round(POLL_TIMEOUT_S * 1000)

    def step() -> tuple[int, int, int]:
        fetched = consumer.poll(timeout_ms=timeout_ms).values()
        num_bytes = sum(len(record.value) for batch in fetched for record in batch)
        return sum(map(len, fetched)), num_bytes, 0

    answer = measure(job, restart=consumer.seek_to_beginning, step=step)
    source.close()
    answer.tell()


if __name__ == "__main__":
    main()
