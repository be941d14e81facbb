"""Was anything lost, and were the alarms right: held against the broker, the lake and the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from benchmarks.stack.layout import Layout
from flows import wiring
from flows.alarm_history import record_journal
from flows.ingest import ingest_once
from flows.live import open_live, run_live
from flows.models import newest_model
from flows.operate import alarm_events, journal, scores
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import AlarmEvent, Message, Record, Score, TopicPartition
from fusion.stream.reading import read_to_end

COPY_MESSAGES = 200
AFTER_S = 30.0
"""An alarm that comes so long after the end of a fault is still of it: delays and windows."""


@dataclass(frozen=True)
class Told:
    """What became of one plant's fault."""

    plant: str
    fault: str
    delay_s: float | None
    """From its onset to the first alarm or advisory; None where none came."""
    num_outside: int
    """Raised while the rig was well."""


@dataclass(frozen=True)
class Reckoning:
    """The figures that the verdict rests on."""

    sent: int
    on_broker: int
    outcomes: dict[str, int]
    in_lake: int
    journal_lines: int
    journal_kept: int
    broken_links: tuple[str, ...]
    num_scores: int
    num_scores_twice: int
    num_scores_apart: int
    """Ticks that only one of two scored: this run, and one of the same records without harm."""
    max_surprise_apart: float
    num_raised: int
    num_raised_apart: int
    """Raised by only one of the two."""
    told: tuple[Told, ...]


def reckon(
    layout: Layout, settings: Settings, sent: Mapping[str, int], scenarios: Sequence[Any]
) -> Reckoning:
    """Return what came of the run; every process of the product has ended."""
    plant = layout.plants[0]  # (they share every topic)
    counts = _watched_to_end(layout.plants, settings)
    ours = sum((c for part, c in counts.items() if part.topic in plant.sense_topics), Counts())
    unharmed, num_on_broker = _copied(layout, settings)
    _watched_to_end(layout.plants, unharmed)
    said, again = scores(plant, settings), scores(plant, unharmed)
    by_tick, by_tick_again = _by_tick(said), _by_tick(again)
    raised, raised_again = _raised(plant, settings), _raised(plant, unharmed)
    broken = [link for each in layout.plants for link in journal(each, settings)[1]]
    return Reckoning(
        sent=sum(count for topic, count in sent.items() if topic in plant.sense_topics),
        on_broker=num_on_broker,
        outcomes=asdict(ours) | {"read": ours.read},
        in_lake=_in_lake(plant, settings),
        journal_lines=len({event.id for event in alarm_events(plant, settings)}),
        journal_kept=_kept(layout.plants, settings),
        broken_links=tuple(broken),
        num_scores=len(by_tick),
        num_scores_twice=len(said) - len(by_tick),
        num_scores_apart=len(set(by_tick) ^ set(by_tick_again)),
        max_surprise_apart=max(
            (
                abs(by_tick[key].surprise - by_tick_again[key].surprise)
                for key in set(by_tick) & set(by_tick_again)
            ),
            default=0.0,
        ),
        num_raised=len(raised),
        num_raised_apart=len({e.id for e in raised} ^ {e.id for e in raised_again}),
        told=tuple(_told(p, s, raised) for p, s in zip(layout.plants, scenarios, strict=True)),
    )


def _by_tick(said: Sequence[Score]) -> dict[tuple[str, int], Score]:
    return {(score.plant, score.tick): score for score in said}


def _watched_to_end(plants: Sequence[Plant], settings: Settings) -> Mapping[TopicPartition, Counts]:
    """Go on to the end of what there is, score the ticks that are still open, return the counts."""
    watched = [Watched(plant, newest_model(settings, plant)) for plant in plants]
    with open_live(watched, settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        return live.counts()


def _copied(layout: Layout, settings: Settings) -> tuple[Settings, int]:
    """Copy what the broker holds of the senses to a broker of its own; return how much it was.

    There the same records are scored in one go, by a process that nobody kills.
    """
    plant = layout.plants[0]
    copy = settings.model_copy(
        update={"broker": "embedded", "data_dir": layout.folder / "unharmed"}
    )
    copy.data_dir.mkdir()
    (copy.data_dir / "models").symlink_to(settings.models_dir)
    for each in layout.plants:
        wiring.prepare_topics(copy, each)
    num = 0
    with (
        contextlib.closing(wiring.open_publisher(copy)) as publisher,
        contextlib.closing(wiring.open_source(settings, plant.sense_topics, "copies")) as source,
    ):
        for batch in _batched(read_to_end(source)):
            publisher.publish([Message(r.topic, r.key, r.value, r.headers) for r in batch])
            num += len(batch)
    return copy, num


def _batched(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(records, COPY_MESSAGES)):
        yield batch


def _in_lake(plant: Plant, settings: Settings) -> int:
    """Bring the lake up to date, and return how many records it holds."""
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "ingest")) as source:
        while not ingest_once(source, lake, clock=wiring.open_clock()).is_complete:
            pass
    return sum(1 for _ in lake.read_headers(plant.sense_topics))


def _kept(plants: Sequence[Plant], settings: Settings) -> int:
    """Bring the alarm history up to date, and return how many lines it keeps."""
    for _ in record_journal(plants[0], settings, should_stop=lambda: False, follow=False):
        pass
    with contextlib.closing(wiring.open_alarm_log(settings)) as log:
        heads = [log.head(str(plant.address)) for plant in plants]
    return sum(0 if head is None else head.number for head in heads)


def _raised(plant: Plant, settings: Settings) -> list[AlarmEvent]:
    """Return every alarm or advisory about the plants (not about the monitoring)."""
    return [
        event
        for event in alarm_events(plant, settings)
        if event.transition == "raised" and event.state.kind != "system"
    ]


def _told(plant: Plant, scenario: Mapping[str, Any], raised: Sequence[AlarmEvent]) -> Told:
    address, fault = str(plant.address), scenario["faults"][0]
    at_s = sorted(
        (event.t_ns - scenario["t_start_ns"]) / NANOSECONDS
        for event in raised
        if event.state.plant == address
    )
    inside = [t_s for t_s in at_s if fault["onset_s"] <= t_s <= fault["end_s"] + AFTER_S]
    return Told(
        plant=address.rpartition("/")[2],
        fault=fault["name"],
        delay_s=round(inside[0] - fault["onset_s"], 1) if inside else None,
        num_outside=len(at_s) - len(inside),
    )
