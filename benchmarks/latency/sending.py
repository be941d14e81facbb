"""Sends the plants in real time, and says when it sent what.

Everything is simulated and encoded before: while it sends, this process costs the machine little.
The plants are the same rig, moved in time so that their ticks end spread over a tick.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flows import wiring
from flows.cli.plant import load_plant
from flows.replay_payloads import sent_ns
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import AudioChunk, Message, Payload, TelemetryBatch
from fusion.simulation import FaultInterval, Scenario, simulate

SEED = 5
LEAD_S = 5.0


class Timed(NamedTuple):
    """A message, and up to when it tells of its stream: it is sent then."""

    due_ns: int
    plant: str
    stream: str
    message: Message


def main() -> None:
    """Send the plants of the order, and write what was sent when to its file."""
    order = json.loads(sys.argv[1])
    settings = Settings(broker="kafka", kafka_bootstrap=order["bootstrap"])
    plants = [load_plant(Path(path)) for path in order["plants"]]
    payloads = [*_simulated(plants[0], order["seconds"])]
    timed = _timed(plants, payloads)
    with (
        contextlib.closing(wiring.open_publisher(settings)) as publisher,
        Path(order["told"]).open("w", encoding="utf-8") as told,
    ):
        for batch in _due(timed):
            t_sent_ns = time.time_ns()  # (before: what sending takes counts too)
            publisher.publish([each.message for each in batch])
            for due_ns, plant, stream, _ in batch:
                print(json.dumps([plant, stream, due_ns, t_sent_ns]), file=told)


def _simulated(plant: Plant, seconds: float) -> Iterator[Payload]:
    faults = (
        FaultInterval("bearing_wear", 0.3 * seconds, 0.6 * seconds),
        FaultInterval("camera_moved", 0.7 * seconds, 0.9 * seconds),
    )
    return iter(simulate(Scenario(seconds, SEED, 0, faults), plant))


def _timed(plants: Sequence[Plant], payloads: Sequence[Payload]) -> list[Timed]:
    began_s = time.monotonic()
    _messages(plants[0], payloads[:50], 0)
    needs_s = (time.monotonic() - began_s) / 50 * len(payloads) * len(plants)
    start_ns = time.time_ns() + round((2 * needs_s + LEAD_S) * NANOSECONDS)
    spread = [
        _messages(plant, payloads, start_ns + number * plant.tick_ns // len(plants))
        for number, plant in enumerate(plants)
    ]
    print(f"encoded in {time.monotonic() - began_s:.0f} s", flush=True)
    if time.time_ns() > start_ns:
        raise RuntimeError("encoding must end before the plants start, and the machine is too busy")
    return list(heapq.merge(*spread, key=lambda each: each.due_ns))


def _messages(plant: Plant, payloads: Sequence[Payload], by_ns: int) -> list[Timed]:
    senders = {
        s.name: StreamSender(plant, s.name, source="bench", epoch="1") for s in plant.streams
    }
    moved = [_moved(payload, by_ns) for payload in payloads]
    made = [
        Timed(sent_ns(each), str(plant.address), each.stream, senders[each.stream].message(each))
        for each in moved
    ]
    return sorted(made, key=lambda each: each.due_ns)


def _moved(payload: Payload, by_ns: int) -> Payload:
    if isinstance(payload, TelemetryBatch):
        return replace(
            payload,
            t_source_R_ns=payload.t_source_R_ns + by_ns,
            t_server_R_ns=payload.t_server_R_ns + by_ns,
            t_receive_R_ns=payload.t_receive_R_ns + by_ns,
        )
    if isinstance(payload, AudioChunk):
        return replace(payload, t_start_ns=payload.t_start_ns + by_ns)
    return replace(payload, t_capture_ns=payload.t_capture_ns + by_ns)


def _due(timed: Sequence[Timed]) -> Iterator[list[Timed]]:
    """Yield what is due, as soon as it is."""
    batch: list[Timed] = []
    for each in timed:
        wait_s = (each.due_ns - time.time_ns()) / NANOSECONDS
        if wait_s > 0:
            if batch:
                yield batch
                batch = []
            time.sleep(max(0.0, (each.due_ns - time.time_ns()) / NANOSECONDS))
        batch.append(each)
    yield batch


if __name__ == "__main__":
    main()
