"""Sends plants in real time: every record at the moment at which it is complete.

The streams of a plant start together, plants start spread over a tick.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sys
import time
from collections.abc import Iterator

from benchmarks.stream.workloads import Timed, Workload, messages
from flows import wiring
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import Message

LEAD_NS = NANOSECONDS


def main() -> None:
    """Send the plants of the command line for as long as it says."""
    order = json.loads(sys.argv[1])
    settings = Settings(broker="kafka", kafka_bootstrap=order["bootstrap"])
    plants = [parse_plant(text, origin="the order") for text in order["plants"]]
    start_ns = time.time_ns() + LEAD_NS
    timed = heapq.merge(
        *(
            _messages(plant, order["seconds"], start_ns + number * plant.tick_ns // len(plants))
            for number, plant in enumerate(plants)
        ),
        key=lambda each: each[0],
    )
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        for batch in _due(timed):
            publisher.publish(batch)


def _messages(plant: Plant, seconds: float, start_ns: int) -> Iterator[Timed]:
    return messages(Workload(plant.prefix, "", plant, seconds), t_start_ns=start_ns)


def _due(timed: Iterator[Timed]) -> Iterator[list[Message]]:
    """Yield what is due, as soon as it is."""
    batch: list[Message] = []
    for due_ns, message in timed:
        wait_s = (due_ns - time.time_ns()) / NANOSECONDS
        if wait_s > 0:
            if batch:
                yield batch
                batch = []
            time.sleep(max(0.0, (due_ns - time.time_ns()) / NANOSECONDS))
        batch.append(message)
    yield batch


if __name__ == "__main__":
    main()
