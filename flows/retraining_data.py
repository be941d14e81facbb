"""What a retraining reads: the lake as a table of quality, incidents, what the champion knew."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from flows import wiring
from flows.drift import newest_ns
from flows.feedback import told_episodes
from flows.gates import open_stored_gate
from flows.learn import recorded_observations
from flows.looking_back import event_ns
from flows.models import models_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.alignment import Observation, tick_end_ns, tick_of
from fusion.errors import InputError, ManifestMismatchError, RecipeError
from fusion.features import layout_of
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.retraining.incidents import Examination, Incident, PeriodRecipe, divide
from fusion.retraining.labels import LabelledEpisode, Precision, precision_of
from fusion.retraining.quality import quality_table
from fusion.stream.intake import align_recorded
from fusion.training.package import load_normaliser

LEAD_S = 600.0
"""Read before the first tick that is needed: clocks differ, and records span seconds."""
CONSTANT = 1.0
"""What the normaliser has for the deviation of a tag that never moved."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the lake holds of a plant, and what was wrong when."""

    ticks: range
    """From the first tick to after the last."""
    table: pl.DataFrame
    """A row for each tick that may be learned from; older ones may be left out."""
    episodes: tuple[LabelledEpisode, ...]
    incidents: tuple[Incident, ...]
    """The episodes, as far as the ticks go."""


def look_at_lake(
    plant: Plant,
    settings: Settings,
    data_version: str,
    *,
    frozen: Sequence[Examination],
    recipe: PeriodRecipe,
) -> Seen | None:
    """Return what the lake holds of ``plant``; None where that is nothing.

    Only the newest part is read, of which ``recipe`` lets a model learn: a row is kept for each of
    its ticks, and a plant's years would fill any memory.

    Raises:
        LakeUnavailableError, ObjectStoreUnavailableError, BrokerUnavailableError,
        AlarmLogUnavailableError: Call again.
    """
    lake, topics = wiring.open_lake(settings), plant.sense_topics
    episodes = tuple(told_episodes(plant, settings))
    roughly = held_ticks(plant, settings, data_version)
    if roughly is None:
        return None
    first = _first_to_read(roughly, episodes, frozen, recipe, plant)
    start = (
        lake.offsets_at(topics, first * plant.tick_ns, version=data_version)
        if first > roughly.start
        else None
    )
    with open_stored_gate(plant, settings) as gate:
        records = lake.read_in_arrival_order(topics, version=data_version, start=start)
        table = quality_table(align_recorded(records, plant, gate), plant)
    if table.is_empty():
        return None
    tick_N = table.get_column("tick").to_numpy()
    begin = int(tick_N.min()) if start is None else roughly.start
    ticks = range(begin, int(tick_N.max()) + 1)
    until_ns = tick_end_ns(ticks.stop - 1, plant)
    return Seen(ticks, table, episodes, incidents_of(episodes, until_ns=until_ns))


def held_ticks(plant: Plant, settings: Settings, data_version: str) -> range | None:
    """Return about which ticks the lake holds, by the first and the last record of each stream."""
    lake, topics = wiring.open_lake(settings), plant.sense_topics
    last_ns = newest_ns(plant, settings, data_version)
    firsts = lake.offsets_at(topics, 0, version=data_version)
    stop = {part: offset + 1 for part, offset in firsts.items()}
    begun = [
        t_ns
        for record in lake.read_in_arrival_order(topics, version=data_version, stop=stop)
        for t_ns in [event_ns(record)]
        if t_ns is not None
    ]
    if last_ns is None or not begun:
        return None
    return range(tick_of(min(begun), plant), tick_of(last_ns, plant) + 1)


def _first_to_read(
    held: range,
    episodes: Sequence[LabelledEpisode],
    frozen: Sequence[Examination],
    recipe: PeriodRecipe,
    plant: Plant,
) -> int:
    """Return the first tick that is needed, with room for windows, clocks and late records."""
    incidents = incidents_of(episodes, until_ns=tick_end_ns(held.stop - 1, plant))
    try:
        train = divide(held, frozen, incidents, recipe, plant, "").train
    except RecipeError:  # (said again, in words, of the ticks as they are)
        return held.start
    return train[0].start - round(LEAD_S / plant.tick_s)


def incidents_of(episodes: Sequence[LabelledEpisode], *, until_ns: int) -> tuple[Incident, ...]:
    """Return the episodes that began before ``until_ns``; one that stands lasts until then."""
    return tuple(
        Incident(
            episode=each.id,
            alarm=each.name,
            onset_ns=each.onset_ns,
            end_ns=max(until_ns if each.cleared_ns is None else each.cleared_ns, each.onset_ns),
            judgement=each.judgement,
        )
        for each in episodes
        if each.onset_ns < until_ns
    )


def verdicts_since(
    plant: Plant, settings: Settings, champion: str | None, episodes: Sequence[LabelledEpisode]
) -> tuple[Precision, ...]:
    """Return what operators said of alarms that began after what the champion was made of.

    Of all alarms where there is no champion, or the lake no longer has what it was made of.
    """
    since_ns = None
    if champion is not None:
        manifest = load_manifest(settings.models_dir / plant.prefix / champion)
        with contextlib.suppress(InputError):
            since_ns = newest_ns(plant, settings, manifest.data_version)
    return tuple(precision_of([e for e in episodes if since_ns is None or e.onset_ns >= since_ns]))


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
