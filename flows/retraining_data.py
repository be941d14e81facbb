"""What a retraining reads: the lake as a table of quality, incidents, what the champion knew."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from flows import wiring
from flows.feedback import told_episodes
from flows.gates import open_stored_gate
from flows.learn import recorded_observations
from flows.models import models_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.alignment import Observation, tick_end_ns
from fusion.errors import ManifestMismatchError
from fusion.features import layout_of
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.retraining.incidents import Incident
from fusion.retraining.quality import quality_table
from fusion.stream.intake import align_recorded
from fusion.training.package import load_normaliser

CONSTANT = 1.0
"""What the normaliser has for the deviation of a tag that never moved."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the lake holds of a plant, a row for each tick, and what was wrong when."""

    table: pl.DataFrame
    incidents: tuple[Incident, ...]

    @property
    def ticks(self) -> range:
        """From the first tick to after the last."""
        ticks = self.table.get_column("tick")
        first, last = ticks.min(), ticks.max()
        assert isinstance(first, int), "who asks for ticks has some"
        assert isinstance(last, int), "who asks for ticks has some"
        return range(first, last + 1)


def look_at_lake(plant: Plant, settings: Settings, data_version: str) -> Seen:
    """Return what the lake holds of ``plant``, read once and not kept in memory.

    Raises:
        LakeUnavailableError, ObjectStoreUnavailableError: Call again.
    """
    lake = wiring.open_lake(settings)
    with open_stored_gate(plant, settings) as gate:
        records = lake.read_in_arrival_order(plant.sense_topics, version=data_version)
        table = quality_table(align_recorded(records, plant, gate), plant)
    if table.is_empty():
        return Seen(table, ())
    last_ns = tick_end_ns(int(table.get_column("tick").to_numpy().max()), plant)
    return Seen(table, incidents_of(plant, settings, until_ns=last_ns))


def incidents_of(plant: Plant, settings: Settings, *, until_ns: int) -> tuple[Incident, ...]:
    """Return every alarm episode that the broker or the alarms' history knows, with its verdict.

    Raises:
        BrokerUnavailableError, AlarmLogUnavailableError: Call again.
    """
    return tuple(
        Incident(
            episode=each.id,
            alarm=each.name,
            onset_ns=each.onset_ns,
            end_ns=max(until_ns if each.cleared_ns is None else each.cleared_ns, each.onset_ns),
            judgement=each.judgement,
        )
        for each in told_episodes(plant, settings, end_ns=until_ns)
    )


def champion_of(settings: Settings, plant: Plant) -> str | None:
    """Return the version that watches the plant: the journal's champion, else the newest."""
    champion = journal_of(settings, plant).state().champion
    if champion is not None:
        return champion
    versions = models_of(settings, plant)
    return versions[-1].name if versions else None


def moving_tags(settings: Settings, plant: Plant, champion: str | None) -> set[str]:
    """Return the signals (``STREAM.TAG``) that moved when the champion was trained."""
    if champion is None:
        return set()
    statistics = load_normaliser(settings.models_dir / plant.prefix / champion).statistics
    return {
        f"{stream.name}.{reading}"
        for stream in layout_of(plant).streams
        if stream.modality == "telemetry" and f"{stream.name}.readings.std" in statistics
        for reading, std in zip(
            stream.readings, statistics[f"{stream.name}.readings.std"].ravel(), strict=False
        )
        if std != CONSTANT
    }


def mismatches_of(settings: Settings, plant: Plant, champion: str | None) -> list[str]:
    """Return in words where lake, plant file and champion differ in what they have."""
    found: list[str] = []
    upkeep, address = wiring.open_lake_upkeep(settings), str(plant.address)
    described = {plant.stream_address(each.name) for each in plant.streams}
    held = set(upkeep.topics())
    for topic in plant.sense_topics:
        counts = upkeep.streams(topic) if topic in held else {}
        found += [
            f"the lake has {count} records of {name} in {topic}, which the plant file does not "
            "describe; describe the stream, or expire them"
            for name, count in counts.items()
            if name.startswith(f"{address}/") and name not in described
        ]
    if champion is not None:
        manifest = load_manifest(settings.models_dir / plant.prefix / champion)
        try:
            manifest.require_fits(plant)
        except ManifestMismatchError as differs:
            found.append(
                f"{differs} (`fusion train` and `fusion models promote` begin with a plant that "
                "was rebuilt; a retraining does not)"
            )
    return found


def observations_in(
    plant: Plant, settings: Settings, data_version: str, within: list[range]
) -> list[Observation]:
    """Return the ticks of ``within`` as the lake's version has them."""
    lake = wiring.open_lake(settings)
    with open_stored_gate(plant, settings) as gate:
        return recorded_observations(lake, plant, gate, data_version, within=within)
