"""Sends the soak test's plant at a fixed speed-up, and says again and again how far it is."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator

from benchmarks.soak.traffic import Traffic
from flows import wiring
from flows.settings import Settings
from fusion.plant import NANOSECONDS, parse_plant
from fusion.schema import Message
from fusion.simulation import Scenario

MAX_MESSAGES = 200
TELL_EVERY_S = 0.1


def main() -> None:
    """Send what the order on the command line says; the last line holds all counts."""
    order = json.loads(sys.argv[1])
    settings = Settings(broker="kafka", kafka_bootstrap=order["bootstrap"])
    plant = parse_plant(order["plant"], origin="the order")
    scenario = Scenario(
        duration_s=order["seconds"], seed=order["seed"], t_start_ns=order["t_start_ns"]
    )
    traffic = Traffic(plant, scenario, epoch=f"soak-{order['seed']}")
    told_s = 0.0
    due_ns = scenario.t_start_ns
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        for due_ns, batch in _paced(traffic.messages(), scenario.t_start_ns, order["speed"]):
            publisher.publish(batch)
            if time.monotonic() - told_s >= TELL_EVERY_S:
                told_s = time.monotonic()
                _tell(traffic, due_ns)
    _tell(traffic, due_ns)


def _paced(
    timed: Iterator[tuple[int, Message]], t_start_ns: int, speed: float
) -> Iterator[tuple[int, list[Message]]]:
    """Yield what is due now, and up to when in event time."""
    began_s = time.monotonic()
    batch: list[Message] = []
    due_ns = t_start_ns
    for due_ns, message in timed:
        wait_s = began_s + (due_ns - t_start_ns) / NANOSECONDS / speed - time.monotonic()
        if batch and (wait_s > 0 or len(batch) >= MAX_MESSAGES):
            yield due_ns, batch
            batch = []
        if wait_s > 0:
            time.sleep(wait_s)
        batch.append(message)
    yield due_ns, batch


def _tell(traffic: Traffic, due_ns: int) -> None:
    print(json.dumps({"t_event_ns": due_ns, "counts": traffic.counts}), flush=True)


if __name__ == "__main__":
    main()
