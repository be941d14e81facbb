"""A million score updates through the alarm engine: rate, memory, what came out.

Two shapes of the same 10,000 alarms: one plant that has them all, and a thousand plants of ten.
An *update* is one tick's finding that one alarm is held against. One alarm in two hundred is beyond
its limit at any time, in a pattern that moves on, so that transitions are paid for too.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from fusion.alarms import AlarmEngine
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import Score

NUM_ALARMS = 10_000
SHARE_BEYOND = 200
ON_TICKS = 20
_HEAD = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: ASSET}
tick_s: 1
streams:
  - name: process
    modality: telemetry
    rate_hz: 1
    tags:
"""
_TAG = "      - {{name: t{0}, unit: m, range: [0, 10]}}\n"
_ALARM = (
    "  - {{name: a{0}, finding: limit, tag: t{0}, side: high, on_at: 9, on_delay_s: 2, "
    "off_delay_s: 2, cause: c, consequence: c, action: a, time_to_respond_s: 60}}\n"
)


@dataclass(frozen=True, slots=True)
class Result:
    """One shape, measured."""

    shape: str
    num_updates: int
    num_events: int
    num_states: int
    wall_s: float
    updates_per_s: float
    ticks_per_s: float
    engine_mb: float
    """What the engines hold after the run, by tracemalloc, in a run of its own."""
    resident_mb: float


def make_plant(asset: str, num_alarms: int) -> Plant:
    """Return a plant whose every tag has a limit alarm."""
    tags = "".join(_TAG.format(n) for n in range(num_alarms))
    alarms = "".join(_ALARM.format(n) for n in range(num_alarms))
    return parse_plant(_HEAD.replace("ASSET", asset) + tags + "alarms:\n" + alarms, origin=asset)


def make_scores(plant: Plant, num_ticks: int) -> Iterator[Score]:
    """Yield ticks in which every tag has a value, some of them beyond the limit."""
    rng = np.random.default_rng(0)
    names = [tag.name for tag in plant.measured]
    calm = rng.uniform(4, 8, len(names))
    for tick in range(num_ticks):
        values = calm.copy()
        shift = tick // ON_TICKS
        values[shift % SHARE_BEYOND :: SHARE_BEYOND] = 9.5
        yield Score.model_construct(
            plant=str(plant.address),
            tick=tick,
            t_end_ns=(tick + 1) * NANOSECONDS,
            model_version="1",
            mode=None,
            surprise=0.1,
            members={},
            shares={"process": 1.0},
            present={"process": True},
            signals=(),
            forecasts=(),
            caveats=(),
            values=dict(zip(names, values.tolist(), strict=True)),
        )


def drive(plants: Sequence[Plant], num_ticks: int) -> tuple[list[AlarmEngine], int, int, float]:
    """Return the engines, how many events and states came out, and the seconds inside them."""
    engines = [AlarmEngine(plant) for plant in plants]
    num_events = num_states = 0
    spent_ns = 0
    for scores in zip(*(make_scores(plant, num_ticks) for plant in plants), strict=True):
        for engine, score in zip(engines, scores, strict=True):
            begin_ns = time.perf_counter_ns()
            num_events += len(engine.update(score))
            num_states += len(engine.take_changed())
            spent_ns += time.perf_counter_ns() - begin_ns
    return engines, num_events, num_states, spent_ns / NANOSECONDS


def measure(shape: str, plants: Sequence[Plant], num_updates: int) -> Result:
    """Return rate and memory of ``num_updates`` updates over all alarms of ``plants``."""
    num_alarms = sum(len(plant.alarms) for plant in plants)
    num_ticks = num_updates // num_alarms
    _, num_events, num_states, spent_s = drive(plants, num_ticks)
    resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tracemalloc.start()
    engines, *_ = drive(plants, 2 * ON_TICKS)
    held_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    assert len(engines) == len(plants)
    return Result(
        shape=shape,
        num_updates=num_ticks * num_alarms,
        num_events=num_events,
        num_states=num_states,
        wall_s=round(spent_s, 3),
        updates_per_s=round(num_ticks * num_alarms / spent_s),
        ticks_per_s=round(num_ticks * len(plants) / spent_s),
        engine_mb=round(held_mb, 1),
        resident_mb=round(resident_mb),
    )


def main() -> None:
    """Measure both shapes and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000, help="score updates per shape")
    parser.add_argument("--out", type=Path, help="write the results as JSON here")
    options = parser.parse_args()
    shapes = {
        "one plant of 10,000 alarms": [make_plant("whole", NUM_ALARMS)],
        "1,000 plants of 10 alarms": [make_plant(f"x{n}", 10) for n in range(NUM_ALARMS // 10)],
    }
    results = [measure(shape, plants, options.updates) for shape, plants in shapes.items()]
    told = {
        "machine": describe(),
        "results": [asdict(result) for result in results],
    }
    text = json.dumps(told, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
