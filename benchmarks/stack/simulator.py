"""``python -m benchmarks.stack.simulator ORDER``: some rigs at once, in real time, with faults.

It stands for the plants: the one part that nobody kills. While Kafka is away its records wait in
the spool, as an edge's do.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import AudioChunk, Message, Payload, TelemetryBatch
from fusion.simulation import FaultInterval, Scenario, simulate
from fusion.stream.spool import SpoolingPublisher

LEAD_S = 5.0
"""From the start to the first record: simulating ten rigs' first block takes so long."""


class Due(NamedTuple):
    """A message and when it is complete; ``order`` keeps the order of one plant."""

    t_ns: int
    plant: int
    order: int
    message: Message


def main() -> None:
    """Send what the order says; the file of progress holds what was sent so far, by topic."""
    order = json.loads(sys.argv[1])
    settings = Settings.load()
    plants = [load_plant(Path(file)) for file in order["plant_files"]]
    scenarios = [scenario_of(each) for each in order["scenarios"]]
    sent: Counter[str] = Counter()
    progress = Path(order["progress"])
    with contextlib.closing(
        wiring.open_sender(settings, plants[0], source="simulator")
    ) as publisher:
        for batch in _paced(heapq.merge(*map(_messages, range(len(plants)), plants, scenarios))):
            publisher.publish(batch)
            sent.update(message.topic for message in batch)
            progress.write_text(json.dumps({"sent": sent}), encoding="utf-8")
        while isinstance(publisher, SpoolingPublisher) and not publisher.flush(1.0):
            pass
    progress.write_text(json.dumps({"sent": sent, "is_done": True}), encoding="utf-8")


def scenario_of(told: dict[str, Any]) -> Scenario:
    """Return the scenario that an order describes."""
    faults = tuple(FaultInterval(**fault) for fault in told["faults"])
    return Scenario(told["duration_s"], told["seed"], told["t_start_ns"], faults)


def _messages(number: int, plant: Plant, scenario: Scenario) -> Iterator[Due]:
    senders = {
        stream.name: StreamSender(plant, stream.name, source="simulator", epoch="stack")
        for stream in plant.streams
    }
    for order, payload in enumerate(simulate(scenario, plant)):
        message = senders[payload.stream].message(payload)
        yield Due(_complete_ns(payload), number, order, message)


def _complete_ns(payload: Payload) -> int:
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[-1])
    if isinstance(payload, AudioChunk):
        return payload.t_start_ns + len(payload.samples_N) * NANOSECONDS // payload.sample_rate_hz
    return payload.t_capture_ns


def _paced(due: Iterator[Due]) -> Iterator[list[Message]]:
    """Yield what is due by now, about ten times a second."""
    batch: list[Message] = []
    for each in due:
        if each.t_ns > time.time_ns() and batch:
            yield batch
            batch = []
        if (wait_s := (each.t_ns - time.time_ns()) / NANOSECONDS) > 0:
            time.sleep(max(wait_s, 0.1))
        batch.append(each.message)
        if len(batch) >= 200:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    main()
