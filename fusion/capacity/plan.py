"""What a fleet of plants needs: brokers, partitions, processes, disks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fusion.capacity.costs import (
    MEASURED_PIXELS,
    MEASURED_PLANTS_IN_PROCESS,
    MEASURED_VALUES_PER_RECORD,
    cost,
)
from fusion.capacity.load import US_PER_S, PlantLoad, load_of, values_per_record
from fusion.errors import InputError
from fusion.plant import Plant, TelemetryStream, VideoStream

SECONDS_PER_DAY = 86_400
READERS = 2
"""Of everything that the senses say: `fusion live` and `fusion ingest`."""
PARTITIONS_PER_REPLICA = 4
"""The number of partitions cannot be changed later: room to grow fourfold."""
MAX_PARTITIONS = 1_000
CORES_PER_BROKER = 4
CORES_PER_TRITON = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a plan."""

    what: str
    amount: float
    unit: str
    because: str


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What is needed, and where that goes beyond what was measured."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def amount(self, what: str) -> float:
        """Return how much is needed of ``what``."""
        return next(row.amount for row in self.rows if row.what == what)


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a fleet is asked to have."""

    num_plants: int
    headroom: float = 0.4
    """Share of every machine that stays free: for peaks, restarts and catching up."""
    replication: int = 3
    lake_days: float = 365
    num_tabs: int = 20
    uses_triton: bool = False

    def require_sound(self) -> None:
        """Return when it can be planned for.

        Raises:
            InputError: Says which number cannot be.
        """
        if self.num_plants < 1 or self.replication < 1 or self.lake_days < 0 or self.num_tabs < 0:
            raise InputError(
                "a plan needs at least one plant and one copy, and no negative numbers, got "
                f"{self.num_plants} plants, {self.replication} copies, {self.lake_days:g} days, "
                f"{self.num_tabs} tabs"
            )
        if not 0 <= self.headroom < 1:
            raise InputError(
                f"headroom is a share of a machine, from 0 to below 1, got {self.headroom:g}"
            )


def plan_capacity(plant: Plant, sizing: Sizing) -> CapacityPlan:
    """Return what ``sizing.num_plants`` plants like ``plant`` need.

    Raises:
        InputError: The sizing is none, or one plant alone is too much for a process.
    """
    sizing.require_sound()
    load, usable = load_of(plant), 1 - sizing.headroom
    fits = usable / load.live_cpu_s
    if fits < 1:
        raise InputError(
            f"one plant must fit into one live process with {sizing.headroom:.0%} of a core free, "
            f"but needs {load.live_cpu_s:.0%} of a core; lengthen tick_s, thin out the streams, or "
            "take less headroom"
        )
    num_prefix = max(1, int(cost("console_updates_per_s") * usable / load.ticks_per_s))
    groups = _groups(sizing.num_plants, num_prefix)
    num_live = sum(count * _replicas(size, fits) for size, count in groups)
    per_replica = sizing.num_plants / num_live
    rows = (
        *_grouping(groups, num_prefix, fits, sizing),
        Row(
            "live replicas",
            num_live,
            f"processes of {_memory_mb(per_replica):,.0f} MB",
            f"a plant takes {load.live_cpu_s * 1e3:.1f} ms of a core each second; one core each, "
            f"{sizing.headroom:.0%} free; plants do not spread evenly over partitions",
        ),
        *_inference(load, sizing, usable),
        *_storage(plant, load, sizing, usable),
        Row(
            "consoles",
            max(
                _num_prefixes(groups), math.ceil(sizing.num_tabs / (cost("console_tabs") * usable))
            ),
            "processes",
            "one for each prefix, since it reads all scores of one; "
            f"{cost('console_tabs') * usable:.0f} tabs at each",
        ),
    )
    return CapacityPlan(rows, tuple(_warnings(plant, sizing, rows)))


def _grouping(
    groups: Sequence[tuple[int, int]], num_prefix: int, fits: float, sizing: Sizing
) -> tuple[Row, ...]:
    largest = max(size for size, _ in groups)
    partitions = min(MAX_PARTITIONS, PARTITIONS_PER_REPLICA * _replicas(largest, fits))
    return (
        Row("plants", sizing.num_plants, "plants", "as asked"),
        Row(
            "prefixes",
            _num_prefixes(groups),
            f"of at most {num_prefix} plants",
            "all scores of a prefix are one partition, which each console reads whole; a score is "
            "taken to cost a console what an alarm update does",
        ),
        Row(
            "partitions",
            partitions,
            "for each topic of a prefix",
            f"{PARTITIONS_PER_REPLICA} for each live replica: it cannot be changed later",
        ),
    )


def _inference(load: PlantLoad, sizing: Sizing, usable: float) -> tuple[Row, ...]:
    windows_per_s = sizing.num_plants * load.ticks_per_s
    if not sizing.uses_triton:
        why = f"{windows_per_s:,.0f} windows/s are scored inside of the live processes"
        return (Row("Triton servers", 0, "", why),)
    each = cost("triton_windows_per_s") * usable
    return (
        Row(
            "Triton servers",
            math.ceil(windows_per_s / each),
            f"of {CORES_PER_TRITON} cores, no GPU",
            f"{windows_per_s:,.0f} windows/s at {each:.0f} each",
        ),
    )


def _storage(plant: Plant, load: PlantLoad, sizing: Sizing, usable: float) -> tuple[Row, ...]:
    num, stored = sizing.num_plants, load.stored_bytes_per_s
    hours = plant.topics.retention_h
    held = sum(rate * getattr(hours, kind) * 3600 for kind, rate in stored.items())
    senses = sum(rate for kind, rate in stored.items() if kind != "scores")
    in_bytes_per_s = sum(stored.values())
    cpu_us = load.records_per_s * cost("broker_record_us") + in_bytes_per_s * cost("broker_byte_us")
    cores = num * cpu_us / US_PER_S * (sizing.replication + READERS) / usable
    days = sizing.lake_days
    return (
        Row(
            "brokers",
            max(sizing.replication, math.ceil(cores / CORES_PER_BROKER)),
            f"of {CORES_PER_BROKER} cores",
            f"{num * load.records_per_s:,.0f} records/s, {num * in_bytes_per_s / 1e6:,.1f} MB/s; "
            "a copy and a reader are taken to cost what a write does",
        ),
        Row(
            "broker disk",
            num * held * sizing.replication / usable / 1e12,
            "TB over all brokers",
            f"{sizing.replication} copies, kept as the plant file says, {sizing.headroom:.0%} free",
        ),
        Row("lake each day", num * senses * SECONDS_PER_DAY / 1e9, "GB", "as large as on a broker"),
        Row(
            "lake",
            num * senses * SECONDS_PER_DAY * days / usable / 1e12,
            "TB",
            f"{days:g} days, {sizing.headroom:.0%} free",
        ),
    )


def _warnings(plant: Plant, sizing: Sizing, rows: Sequence[Row]) -> list[str]:
    amounts = {row.what: row.amount for row in rows}
    found = [
        "The live process was measured whole with one plant, and aligning with "
        f"{MEASURED_PLANTS_IN_PROCESS}; that scoring costs each further plant the same is assumed."
    ]
    if sizing.num_plants / amounts["live replicas"] > MEASURED_PLANTS_IN_PROCESS:
        found.append(f"More than {MEASURED_PLANTS_IN_PROCESS} plants in a process: not measured.")
    if amounts["brokers"] > 1:
        found.append("Kafka was measured as one broker; three ran in tests, none under this load.")
    if amounts["prefixes"] > 1:
        found.append("Several prefixes side by side: not measured; nothing is shared but brokers.")
    if sizing.uses_triton:
        found.append("Triton was measured on CPUs; measure your GPU with `make bench-inference`.")
    for stream in plant.streams:
        is_wide = isinstance(stream, TelemetryStream) and (
            values_per_record(stream) > MEASURED_VALUES_PER_RECORD
        )
        is_large = isinstance(stream, VideoStream) and (
            stream.width_px * stream.height_px > MEASURED_PIXELS
        )
        if is_wide or is_large:
            found.append(f"{stream.name}: its records are larger than any that was measured.")
    return found


def _groups(num_plants: int, most: int) -> list[tuple[int, int]]:
    """Return sizes of prefixes and how many there are of each: full ones, and what is left."""
    full, left = divmod(num_plants, most)
    return [each for each in ((most, full), (left, 1)) if each[0] and each[1]]


def _num_prefixes(groups: Sequence[tuple[int, int]]) -> int:
    """Return how many prefixes there are."""
    return sum(count for _, count in groups)


def _replicas(num_plants: int, fits: float) -> int:
    """Return the least number of processes of which the fullest has at most ``fits`` plants.

    Keys are spread by their hash, so that of n plants on r processes the fullest has about
    n / r + sqrt(2 n / r ln r) (Raab and Steger, "Balls into bins", 1998).
    """
    replicas = max(1, math.ceil(num_plants / fits))
    while replicas < num_plants:
        mean = num_plants / replicas
        if mean + math.sqrt(2 * mean * math.log(replicas)) <= fits:
            break
        replicas += 1
    return replicas


def _memory_mb(num_plants: float) -> float:
    return cost("live_base_mb") + max(0.0, num_plants - 1) * cost("live_plant_mb")
