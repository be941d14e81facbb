"""How everything that a live process watches does at one moment: numbers for monitoring.

They are taken by the loop itself, every few seconds, and never change afterwards, so that another
thread may show them while the loop goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fusion.alignment import Counts
from fusion.rollout.metering import Calls, Meter
from fusion.schema import AlarmState, ShownState, StreamHealth, TopicPartition
from fusion.stream.chain import Chain

FIGURES_EVERY_S = 5.0
"""Monitoring asks every 10 to 60 seconds."""


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """What a model version that is open has done since it came into its role."""

    version: str
    role: str
    """``champion`` speaks, ``challenger`` only listens."""
    calls: Calls | None


@dataclass(frozen=True, slots=True)
class PlantFigures:
    """How one plant does."""

    plant: str
    partition: int
    tick_s: float
    newest_ns: Mapping[str, int]
    """Newest event time of each stream that has spoken."""
    watermark_ns: int | None
    """Up to this event time every tick is closed; None before the first one."""
    standing: Mapping[tuple[str, str], int]
    """Alarms that are on and not hidden, by kind and priority."""
    num_unacknowledged: int
    streams: tuple[StreamHealth, ...]
    versions: tuple[VersionFigures, ...]


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """How a live process does at ``t_ns``, by the machine's clock."""

    t_ns: int
    monotonic_ns: int
    counts: Mapping[TopicPartition, Counts]
    lags: Mapping[TopicPartition, int]
    """Records that the broker holds and that are not read yet."""
    plants: tuple[PlantFigures, ...]
    waits_for: str | None
    """Why nothing is scored just now."""


def plant_figures(chain: Chain) -> PlantFigures:
    """Return how the plant of ``chain`` does."""
    next_tick = chain.intake.next_tick()
    states = chain.alarms.states()
    versions = [_version(chain.model_version, "champion", chain.meter)]
    if chain.shadow is not None:
        versions.append(_version(chain.shadow.model_version, "challenger", chain.shadow.meter))
    return PlantFigures(
        plant=str(chain.plant.address),
        partition=chain.partition,
        tick_s=chain.plant.tick_s,
        newest_ns=chain.intake.newest_ns(),
        watermark_ns=None if next_tick is None else next_tick * chain.plant.tick_ns,
        standing=Counter((state.kind, state.priority) for state in states if _is_standing(state)),
        num_unacknowledged=sum(state.shown in _WAITING for state in states),
        streams=tuple(chain.intake.health()),
        versions=tuple(versions),
    )


_WAITING = {ShownState.UNACKNOWLEDGED, ShownState.RETURNED_UNACKNOWLEDGED}


def _is_standing(state: AlarmState) -> bool:
    return state.condition.is_standing and not state.is_hidden


def _version(version: str, role: str, meter: Meter | None) -> VersionFigures:
    return VersionFigures(version, role, None if meter is None else meter.calls())
