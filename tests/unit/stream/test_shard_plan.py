"""Shards of stored records: together they are the whole, and each tick is the same bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, StreamSender
from fusion.schema import Message, Record
from fusion.stream.backfill import observations_of
from fusion.stream.intake import Intake
from fusion.stream.shard_plan import (
    EVERYTHING,
    Borders,
    EveryRecords,
    EveryTicks,
    ShardPlan,
    Span,
)
from fusion.stream.shard_planner import BrokerClock, plan_shards
from tests.unit.alignment.test_restart import MAKERS, PLANT, as_comparable

WINDOW_TICKS = 3
T_BROKER_NS = 1_000_000_000 * NANOSECONDS


def stored(arrivals: Sequence[tuple[float, Message]], *, first_offset: int = 0) -> list[Record]:
    """Return one partition with its messages in the order of arrival (seconds), as stored."""
    ordered = sorted(arrivals, key=lambda pair: pair[0])
    return [
        Record(
            message.topic,
            0,
            # Transactions leave holes in the offsets.
            first_offset + 2 * index,
            message.key,
            message.value,
            message.headers,
            t_broker_ns=T_BROKER_NS + round(t_s * NANOSECONDS),
        )
        for index, (t_s, message) in enumerate(ordered)
    ]


@st.composite
def lakes(draw: st.DrawFn) -> list[list[Record]]:
    """One partition a stream: jitter, losses, repeats, late, poison, pauses of all, and silences.

    A stream that was silent comes back with what it kept meanwhile, or without.
    """
    pause_at, pause_s = draw(st.integers(1, 30)), draw(st.sampled_from([0, 0, 1.5, 2, 2.5, 9]))
    partitions: list[list[Record]] = []
    for stream, make in MAKERS.items():
        sender = StreamSender(PLANT, stream, source="test", epoch="boot")
        silent_at, silent_for = draw(st.integers(0, 30)), draw(st.sampled_from([0, 0, 0, 8, 60]))
        keeps = draw(st.booleans())
        arrivals: list[tuple[float, Message]] = []
        for index in range(draw(st.integers(8, 34))):
            t_s = index * 0.5 + (pause_s if index >= pause_at else 0)
            message = sender.message(make(100 + t_s, (index % 7) / 10))
            arrival_s = t_s + draw(st.floats(0, 0.7))
            if silent_at <= index < silent_at + silent_for:
                if not keeps:
                    continue
                arrival_s = (silent_at + silent_for) * 0.5 + pause_s + index / 1000
            fates = ["sent"] * 7 + ["lost", "late", "repeated", "poison", "stranger"]
            fate = draw(st.sampled_from(fates))
            if fate == "lost":
                continue
            if fate == "poison":
                message = replace(message, value=b"\x00\xff")
            elif fate == "stranger":
                message = replace(message, key="who/is/this")
            arrivals.append((arrival_s + (8 if fate == "late" else 0), message))
            if fate == "repeated":
                arrivals.append((arrival_s + draw(st.floats(0, 6)), message))
        partitions.append(stored(arrivals, first_offset=draw(st.sampled_from([0, 7]))))
    return partitions


def in_arrival_order(
    partitions: list[list[Record]], shard: ShardPlan | None = None
) -> list[Record]:
    """Return what a lake gives: everything, or what a shard asks for."""
    if shard is not None:
        start, stop = shard.start(), shard.stop()
        partitions = [
            [
                record
                for record in partition
                if start.get(record.topic_partition, 0)
                <= record.offset
                < stop.get(record.topic_partition, 0)
            ]
            for partition in partitions
        ]
    return list(merge(*partitions, key=lambda record: record.t_broker_ns))


def unsharded(partitions: list[list[Record]], *, with_open_ticks: bool) -> list[Observation]:
    """Return the ticks of the live intake, with the broker's stamps for the wall clock."""
    records = in_arrival_order(partitions)
    clock = BrokerClock(records[0].t_broker_ns)
    intake = Intake(PLANT, clock, context_ticks=WINDOW_TICKS, has_unread=lambda _topic: False)
    given_ticks: list[Observation] = []
    for record in records:
        if record.key == str(PLANT.address):
            clock.see(record)
            given_ticks += intake.take([record]).observations
    return given_ticks + (intake.flush().observations if with_open_ticks else [])


def plans(
    partitions: list[list[Record]],
    borders: Borders,
    span: Span = EVERYTHING,
    *,
    with_open_ticks: bool = False,
) -> list[ShardPlan]:
    made = plan_shards(
        in_arrival_order(partitions),
        PLANT,
        window_ticks=WINDOW_TICKS,
        borders=borders,
        span=span,
        with_open_ticks=with_open_ticks,
    )
    # As a worker in another process gets it.
    return [ShardPlan.model_validate_json(plan.model_dump_json()) for plan in made]


Windows = dict[int, list[tuple[object, ...]]]


def windows(observations: Sequence[Observation]) -> Windows:
    """Return the full windows by their newest tick; a jump begins a new one."""
    found: Windows = {}
    window: list[Observation] = []
    for each in observations:
        is_next = bool(window) and window[-1].tick == each.tick - 1
        window = [*window, each][-WINDOW_TICKS:] if is_next else [each]
        if len(window) == WINDOW_TICKS:
            assert each.tick not in found, "no tick comes twice"
            found[each.tick] = [as_comparable(one) for one in window]
    return found


def windows_of(shard: ShardPlan, partitions: list[list[Record]]) -> Windows:
    """Return the full windows of the shard's own ticks, from its own records alone."""
    records = in_arrival_order(partitions, shard)
    observations = [
        each
        for each in observations_of(shard, records, PLANT, WINDOW_TICKS)
        if each.tick < shard.end_tick
    ]
    own = [each for each in observations if each.tick >= shard.first_tick]
    assert len(own) == shard.num_ticks
    return {tick: w for tick, w in windows(observations).items() if tick >= shard.first_tick}


@settings(max_examples=150, deadline=None)
@given(
    lakes(),
    st.one_of(
        st.builds(EveryTicks, st.integers(1, 40)), st.builds(EveryRecords, st.integers(1, 60))
    ),
    st.booleans(),
)
def test_shards_together_are_the_whole_bit_for_bit(
    partitions: list[list[Record]], borders: Borders, with_open_ticks: bool
) -> None:
    whole = unsharded(partitions, with_open_ticks=with_open_ticks)
    shards = plans(partitions, borders, with_open_ticks=with_open_ticks)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert sum(shard.num_ticks for shard in shards) == len(whole)
    for before, after in pairwise(shards):
        assert before.end_tick == after.first_tick
    together: Windows = {}
    for shard in reversed(shards):
        found = windows_of(shard, partitions)
        assert not found.keys() & together.keys()
        together |= found
    assert together == windows(whole)


@settings(max_examples=60, deadline=None)
@given(lakes(), st.integers(195, 240), st.integers(1, 40), st.integers(1, 9))
def test_a_span_is_a_part_of_the_whole(
    partitions: list[list[Record]], first_tick: int, num_ticks: int, shard_ticks: int
) -> None:
    span = Span(first_tick, first_tick + num_ticks)
    ticks = range(first_tick, first_tick + num_ticks)
    together: Windows = {}
    for shard in plans(partitions, EveryTicks(shard_ticks), span):
        assert shard.first_tick in ticks
        assert shard.end_tick <= ticks.stop
        together |= windows_of(shard, partitions)
    whole = windows(unsharded(partitions, with_open_ticks=False))
    assert together == {tick: window for tick, window in whole.items() if tick in ticks}


def test_a_record_that_has_become_unreadable_stops_the_shard() -> None:
    sender = StreamSender(PLANT, "eye", source="test", epoch="boot")
    messages = [
        (index * 0.5, sender.message(MAKERS["eye"](100 + index * 0.5, 0.5))) for index in range(40)
    ]
    partitions = [stored(messages)]
    (shard,) = plans(partitions, EveryTicks(1_000), with_open_ticks=True)
    assert shard.num_ticks == 40
    partitions[0][20] = replace(partitions[0][20], value=b"gone")
    with pytest.raises(InputError, match=r"offset 40: .*--afresh"):
        windows_of(shard, partitions)


def test_nothing_stored_gives_no_shard() -> None:
    assert plans([[]], EveryTicks(10)) == []


def regular(
    times_s: Sequence[float], *, streams: Sequence[str] = tuple(MAKERS)
) -> list[list[Record]]:
    """Return one partition a stream; each speaks at ``times_s`` and arrives at once."""
    partitions: list[list[Record]] = []
    for stream in streams:
        sender = StreamSender(PLANT, stream, source="test", epoch="boot")
        make = MAKERS[stream]
        partitions.append(stored([(t_s, sender.message(make(100 + t_s, 0.5))) for t_s in times_s]))
    return partitions


@pytest.mark.parametrize("pause_s", [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 6.0])
def test_shards_that_begin_around_a_pause_of_the_whole_plant(pause_s: float) -> None:
    partitions = regular([i * 0.5 + (pause_s if i >= 10 else 0) for i in range(20)])
    whole = unsharded(partitions, with_open_ticks=True)
    together: Windows = {}
    for shard in plans(partitions, EveryTicks(1), with_open_ticks=True):
        together |= windows_of(shard, partitions)
    assert together == windows(whole)


def test_a_dead_stream_does_not_hold_a_shard_in_memory() -> None:
    partitions = regular([i * 0.5 for i in range(60)], streams=("process", "ear"))
    (shard,) = plans(partitions, EveryTicks(1_000))
    assert shard.num_ticks > 40
    num_read = 0

    def counted() -> Iterator[Record]:
        nonlocal num_read
        for record in in_arrival_order(partitions, shard):
            num_read += 1
            yield record

    seen_when_given = [num_read for _ in observations_of(shard, counted(), PLANT, WINDOW_TICKS)]
    assert seen_when_given[0] < 40
    assert seen_when_given[20] < num_read
