"""The page: a table of what each flow takes at each scale, and how that grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.flows.one import Took
from benchmarks.machine import as_markdown

FLOWS: Mapping[str, str] = {
    "ingest": "every record once, 64 MiB at a time",
    "validate": "every record once; a row of the table of quality for each tick is kept",
    "train": "30 steps as ever; the ticks to learn from are kept, and calibrated on",
    "evaluate": "a fifth of the ticks through the model; the baseline learns from the rest",
    "gate": "figures alone",
    "export": "networks alone",
    "rollout": "a line in the journal",
    "watch-drift": "half as much again that came since, and the model's own period",
    "backfill": "every tick once, in shards of an hour",
    "housekeeping": "files of the lake, and the list of them",
}
"""What is shown, and what there is to grow."""
PLANTS: Mapping[str, str] = {
    "pump": "16 tags at 10 Hz",
    "rig": "the same with a microphone (16 kHz) and a camera (160 x 120, 2 Hz)",
}
FLAT_MIB, FLAT_S = 1.0, 0.3
"""Less than that says nothing of growth."""
KIB_OF_MIB, KIB_OF_GIB = 1024.0, 1024.0**2
TICKS_PER_MINUTE = 120
DAY_TICKS = 1_440 * TICKS_PER_MINUTE


def as_page(machine: Mapping[str, Any], rows: Sequence[Took], once_minutes: float) -> str:
    """Return the page in Markdown."""
    scales = sorted({row.scale for row in rows})
    lengths = ", ".join(f"{scale}x is {_length(once_minutes * scale)}" for scale in scales)
    imported = sum(row.before_mib for row in rows) / len(rows)
    plants = [plant for plant in PLANTS if any(row.plant == plant for row in rows)]
    tables = "\n\n".join(
        f"## {plant.capitalize()}: {PLANTS[plant]}\n\n"
        f"{_table([row for row in rows if row.plant == plant])}"
        for plant in plants
    )
    held = {plant: _kib_per_tick(rows, plant, once_minutes) for plant in plants}
    kept = "; ".join(
        f"{kib:.1f} KiB for each tick of the {plant}, {kib * DAY_TICKS / KIB_OF_GIB:.1f} GiB a day"
        for plant, kib in held.items()
    )
    return f"""# What a flow costs

Written by `make bench-flows`; the figures are in [flows.json](flows.json). A simulated plant with
ticks of half a second ({lengths}; half as much again comes later, for `watch-drift` and
`backfill`); the embedded broker, a Delta lake, the recipe `quick` (32 wide, 30 steps), no MLflow.
Each flow is a process of its own, without Prefect; a backfill has one worker. One go.

{as_markdown(dict(machine))}

![time and memory by the amount of data](flows.svg)

{tables}

Seconds are wall time of the work. MiB is the peak of the process's memory above what it holds once
everything is imported (about {imported:,.0f} MiB); the code of libraries that a flow runs first is
among it, so that some 100 MiB are the same at every scale. *Grows as* is the power of the data from
the scale before the last to the last: 1 is in proportion, 0 is not at all; a dash is too little to
say.

## What it says

- Only `train` has to hold what it learns from, as values and as what the networks read of them:
  {kept}
  (between its last two scales). The bound is the policy's `max_train_s`, 30 days by default: set it
  to what the machine has memory for.
- `evaluate` holds the examination, and the telemetry that its baseline learns from; `validate` a
  row for each tick; `watch-drift` an embedding for each tick of its two periods.
- All that read the lake hold one of its files at a time. A file grows up to 64 MiB of values before
  the next begins, and `housekeeping` joins smaller ones, so that memory grows with a small lake.
"""


def _table(rows: Sequence[Took]) -> str:
    scales = sorted({row.scale for row in rows})
    heads = [f"{scale}x, s" for scale in scales] + [f"{scale}x, MiB" for scale in scales]
    heads += ["time grows as", "memory grows as", "what there is to grow"]
    lines = [f"| flow | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for flow, why in FLOWS.items():
        mine = sorted((row for row in rows if row.flow == flow), key=lambda row: row.scale)
        cells = [f"{row.seconds:,.2f}" for row in mine]
        cells += [f"{row.grown_mib:,.0f}" for row in mine]
        cells += [_power([row.seconds for row in mine], mine, FLAT_S)]
        cells += [_power([row.grown_mib for row in mine], mine, FLAT_MIB), why]
        lines.append(f"| {flow} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _power(values: Sequence[float], rows: Sequence[Took], least: float) -> str:
    """Return how the newest two values grow with the data: the slope of a log-log line."""
    if len(rows) < 2 or min(values[-2:]) < least:
        return "–"
    by = math.log(rows[-1].scale / rows[-2].scale)
    return f"{math.log(values[-1] / values[-2]) / by:.2f}"


def _kib_per_tick(rows: Sequence[Took], plant: str, once_minutes: float) -> float:
    """Return what training holds more for each tick more, between its last two scales."""
    mine = sorted(
        (row for row in rows if (row.plant, row.flow) == (plant, "train")),
        key=lambda row: row.scale,
    )
    if len(mine) < 2:
        return float("nan")
    before, last = mine[-2:]
    ticks = (last.scale - before.scale) * once_minutes * TICKS_PER_MINUTE
    return (last.grown_mib - before.grown_mib) * KIB_OF_MIB / ticks


def _length(minutes: float) -> str:
    return f"{minutes:g} minutes" if minutes < 60 else f"{minutes / 60:.3g} h"
