"""Bare confluent-kafka (librdkafka): how fast these bytes can be read from Python at all.

Runs in the peers' environment.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.stream.jobs import Job, measure

POLL_TIMEOUT_S = 0.01
"""It waits for a full batch as long as this, so a long one would only slow down the end."""


def main() -> None:
    """Run the job of the command line."""
    job = Job.from_command_line()
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # As the product's consumer has them; the rest are librdkafka's own.
            "fetch.max.bytes": 16 * 1024 * 1024,
            "max.partition.fetch.bytes": 4 * 1024 * 1024 + 64 * 1024,
        }
    )
    beginnings = [TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in job.topics]

    def step() -> tuple[int, int, int]:
        batch = consumer.consume(num_messages=500, timeout=POLL_TIMEOUT_S)
        return len(batch), sum(len(message.value()) for message in batch), 0

    answer = measure(job, restart=lambda: consumer.assign(beginnings), step=step)
    consumer.close()
    answer.tell()


if __name__ == "__main__":
    main()
