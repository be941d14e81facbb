"""What a training holds in memory, and what there is: said before hours are spent on it."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import psutil

from fusion.alignment import rows_per_tick
from fusion.features import layout_of
from fusion.plant import AudioStream, Plant, Stream, TelemetryStream
from fusion.retraining.quality import Finding

GIB = 2**30
KEPT_PER_TICK = 5 * 1024
"""Of any tick, whatever its size: with it the estimate for the pump of docs/benchmarks/flows.md is
the 7.0 KiB that were measured there."""
COPIES = 2
"""Values, and what networks read of them, lie beside the arrays that they are stacked into."""
FLOAT_BYTES = 4
LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Of a container: what it may have, and what it has; control groups of version 2 and of 1."""


def bytes_per_tick(plant: Plant) -> int:
    """Return about how many bytes a training holds for each tick that it learns from."""
    raw = sum(_raw_bytes(stream, plant) for stream in plant.streams)
    inputs = sum(math.prod(each.input_shape) for each in layout_of(plant).streams) * FLOAT_BYTES
    return KEPT_PER_TICK + COPIES * (raw + inputs)


def available_bytes() -> int:
    """Return how many bytes this process may still take, of the machine's or its container's."""
    free = psutil.virtual_memory().available
    for limit, used in LIMITS:
        # (No such group, or "max": the machine's memory is the limit.)
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(0, free)


def memory_finding(
    plant: Plant, num_ticks: int, *, at_once: int, available: int | None = None
) -> Finding:
    """Return whether ``at_once`` trainings on ``num_ticks`` fit into memory, and what to set."""
    free = available_bytes() if available is None else available
    each = bytes_per_tick(plant)
    needed = at_once * num_ticks * each
    is_met = needed <= free
    told = (
        f"{num_ticks * plant.tick_s / 3_600:.1f} h to learn from take about {needed / GIB:.1f} GiB"
        f"{f' in {at_once} processes' if at_once > 1 else ''}, and {free / GIB:.1f} GiB are free"
    )
    if not is_met:
        fits_s = math.floor(free / at_once / each * plant.tick_s)
        told += (
            f"; set max_train_s (of a retraining: periods.max_train_s of its policy) to {fits_s} "
            "or less, or give it more memory"
        )
    return Finding(rule="memory", is_met=is_met, sentence=told)


def _raw_bytes(stream: Stream, plant: Plant) -> int:
    if isinstance(stream, TelemetryStream):
        return rows_per_tick(stream, plant) * len(stream.tags) * FLOAT_BYTES
    if isinstance(stream, AudioStream):
        return round(stream.sample_rate_hz * plant.tick_s) * 2
    return stream.frames_per_tick * stream.height_px * stream.width_px * 3
