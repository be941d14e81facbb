"""A killed reader that goes on from any commit gives the same ticks and the same accounts."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Aligner, Counts, Observation, admit
from fusion.errors import RecordError
from fusion.plant import NANOSECONDS, Plant, StreamSender, parse_plant
from fusion.schema import (
    AudioChunk,
    Message,
    Payload,
    Quality,
    Record,
    TelemetryBatch,
    TopicPartition,
    VideoFrame,
)

CONTEXT_TICKS = 3
PLANT: Plant = parse_plant(
    """
prefix: trio
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
allowed_lateness_s: 1
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    max_age_s: 1.2
    tags:
      - {name: level, unit: m, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
  - {name: ear, modality: audio, sample_rate_hz: 4000, max_age_s: 1}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16, max_age_s: 1}
""",
    origin="trio.yaml",
)


def telemetry(t_s: float, value: float) -> TelemetryBatch:
    t_R_ns = np.array([round((t_s + i / 4) * NANOSECONDS) for i in range(2)])
    values_RC = np.array([[value, 0.5], [value + 0.1, np.nan]])
    return TelemetryBatch(
        "process",
        ("level", "goal"),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        values_RC,
        np.full((2, 2), Quality.GOOD, np.uint8),
        np.zeros((2, 2), np.uint32),
    )


def sound(t_s: float, value: float) -> AudioChunk:
    samples_N = np.full(2000, round(value * 1000), np.int16)
    return AudioChunk("ear", round(t_s * NANOSECONDS), 4000, 0, 0.0, 0, samples_N)


def picture(t_s: float, value: float) -> VideoFrame:
    return VideoFrame(
        "eye", round(t_s * NANOSECONDS), np.full((16, 16, 3), round(value * 255), np.uint8)
    )


MAKERS = {"process": telemetry, "ear": sound, "eye": picture}


@dataclass(frozen=True)
class Log:
    """What lies in one partition."""

    records: tuple[Record, ...]


def to_log(messages: list[Message], topic: str) -> Log:
    return Log(
        tuple(
            Record(topic, 0, offset, m.key, m.value, m.headers, t_broker_ns=10**18)
            for offset, m in enumerate(messages)
        )
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Log]:
    """One partition per stream: jitter within the lateness, losses, repeats, late and poison.

    Now and then the whole plant pauses, for less and for longer than a window.
    """
    partitions: list[Log] = []
    pause_at, pause_s = draw(st.integers(1, 20)), draw(st.sampled_from([0, 0, 2, 2.5, 3, 9]))
    for stream, make in MAKERS.items():
        sender = StreamSender(PLANT, stream, source="test", epoch="boot")
        count = draw(st.integers(4, 22))
        messages: list[tuple[float, Message]] = []
        for index in range(count):
            fate = draw(st.sampled_from(["sent"] * 7 + ["lost", "late", "repeated", "poison"]))
            t_s = 100 + index * 0.5 + (pause_s if index >= pause_at else 0)
            payload: Payload = make(t_s, (index % 7) / 10)
            message = sender.message(payload)
            arrival = index + draw(st.floats(0, 1.5))
            if fate == "poison":
                message = Message(message.topic, message.key, b"\x00\xff", message.headers)
            if fate == "late":
                arrival += 8
            if fate != "lost":
                messages.append((arrival, message))
            if fate == "repeated":
                messages.append((arrival + draw(st.floats(0, 6)), message))
        messages.sort(key=lambda pair: pair[0])
        topic = PLANT.topic(PLANT.stream(stream).modality)
        partitions.append(to_log([message for _, message in messages], topic))
    return partitions


CHOICES = st.lists(st.integers(0, 2), min_size=1, max_size=9)


def is_usable(record: Record) -> bool:
    try:
        admit(record, PLANT)
    except RecordError:
        return False
    return True


def push(aligner: Aligner, record: Record) -> list[Observation]:
    try:
        admitted = admit(record, PLANT)
    except RecordError:
        aligner.refuse(record)
        return []
    aligner.take(record, admitted)
    return aligner.closed()


def interleave(partitions: list[Log], choices: list[int], start: dict[str, int]) -> list[Record]:
    at = {
        index: start.get(log.records[0].topic, 0) if log.records else 0
        for index, log in enumerate(partitions)
    }
    order: list[Record] = []
    turn = 0
    while any(at[i] < len(log.records) for i, log in enumerate(partitions)):
        ready = [i for i, log in enumerate(partitions) if at[i] < len(log.records)]
        index = ready[choices[turn % len(choices)] % len(ready)]
        order.append(partitions[index].records[at[index]])
        at[index] += 1
        turn += 1
    return order


def as_comparable(observation: Observation) -> tuple[object, ...]:
    return (
        observation.tick,
        sorted(observation.usable.items()),
        [(name, values.tobytes()) for name, values in sorted(observation.senses.items())],
    )


def windows(observations: list[Observation]) -> dict[int, list[tuple[object, ...]]]:
    """Return what the model sees when each tick closes: at most a window, begun anew by a jump."""
    found: dict[int, list[tuple[object, ...]]] = {}
    window: list[tuple[object, ...]] = []
    for each in observations:
        kept = window if each.tick - 1 in found else []
        window = [*kept, as_comparable(each)][-CONTEXT_TICKS:]
        found[each.tick] = window
    return found


def without_restart(partitions: list[Log], choices: list[int]) -> tuple[list[Observation], Counts]:
    aligner = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    seen: list[Observation] = []
    for record in interleave(partitions, choices, {}):
        seen += push(aligner, record)
    seen += aligner.flush()
    return seen, aligner.total()


@settings(max_examples=150, deadline=None)
@given(logs(), st.lists(st.integers(0, 2), min_size=1, max_size=9), st.data())
def test_killed_anywhere_and_restarted_gives_the_same(
    partitions: list[Log], choices: list[int], data: st.DataObject
) -> None:
    expected, expected_counts = without_restart(partitions, choices)
    order = interleave(partitions, choices, {})
    commit_at = data.draw(st.integers(0, len(order)), label="commit after")

    first = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    delivered: list[Observation] = []
    for record in order[:commit_at]:
        delivered += push(first, record)
    snapshot = json.loads(json.dumps(first.snapshot()))
    positions = first.positions()

    second = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    second.restore(snapshot)
    start = {part.topic: offset for part, offset in positions.items()}
    again: list[Observation] = []
    other_choices = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=9))
    for record in interleave(partitions, other_choices, start):
        again += push(second, record)
    again += second.flush()

    frontier = delivered[-1].tick if delivered else -1
    whole, rebuilt = windows(expected), windows(again)
    assert {tick: rebuilt[tick] for tick in rebuilt if tick > frontier} == {
        tick: whole[tick] for tick in whole if tick > frontier
    }
    assert second.total() == expected_counts


def test_ticks_in_which_the_whole_plant_was_silent_belong_to_the_window() -> None:
    times_s = [100.0, 100.5, 101.0, 104.0, 104.5, 105.0, 105.5, 106.0]
    partitions: list[Log] = []
    for stream, make in MAKERS.items():
        sender = StreamSender(PLANT, stream, source="test", epoch="boot")
        topic = PLANT.topic(PLANT.stream(stream).modality)
        partitions.append(to_log([sender.message(make(t_s, 0.5)) for t_s in times_s], topic))
    order = interleave(partitions, [0, 1, 2], {})
    first = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    expected: list[Observation] = []
    read = 0
    while not expected or expected[-1].tick < 208:
        expected += push(first, order[read])
        read += 1
    assert [bool(o.senses) for o in expected[-3:]] == [False, False, True]
    second = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    start = {part.topic: offset for part, offset in first.positions().items()}
    second.restore(first.snapshot())
    for record in order[read:]:
        expected += push(first, record)
    again: list[Observation] = []
    for record in interleave(partitions, [0, 1, 2], start):
        again += push(second, record)
    newest = windows(again)
    assert newest[209] == windows(expected)[209]
    assert len(newest[209]) == CONTEXT_TICKS


@settings(max_examples=150, deadline=None)
@given(logs(), st.lists(st.integers(0, 2), min_size=1, max_size=9), st.data())
def test_killed_again_and_again_refuses_each_record_once_and_forgets_nothing(
    partitions: list[Log], choices: list[int], data: st.DataObject
) -> None:
    """Also when a process dies before it has read as far as the one before it."""
    expected, expected_counts = without_restart(partitions, choices)
    num_kills = data.draw(st.integers(2, 4), label="kills")
    snapshot, start = None, {}
    letters: list[tuple[TopicPartition, int]] = []
    delivered: dict[int, tuple[object, ...]] = {}
    aligner = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    for life in range(num_kills + 1):
        aligner = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
        if snapshot is not None:
            aligner.restore(snapshot)
        order = interleave(partitions, data.draw(CHOICES), start)
        if life < num_kills:
            order = order[: data.draw(st.integers(0, len(order)), label="commit after")]
        closed: list[Observation] = []
        for record in order:
            if not is_usable(record) and not aligner.was_refused(record):
                letters.append((record.topic_partition, record.offset))
            closed += push(aligner, record)
        if life == num_kills:
            closed += aligner.flush()
        newest = max(delivered, default=None)
        delivered |= {
            each.tick: as_comparable(each)
            for each in closed
            if newest is None or each.tick > newest
        }
        snapshot = json.loads(json.dumps(aligner.snapshot()))
        start = {part.topic: offset for part, offset in aligner.positions().items()}
    poison = [record for log in partitions for record in log.records if not is_usable(record)]
    assert sorted(letters) == sorted((each.topic_partition, each.offset) for each in poison)
    assert list(delivered.values()) == [as_comparable(each) for each in expected]
    assert aligner.total() == expected_counts


@settings(max_examples=60, deadline=None)
@given(logs(), st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_the_order_between_partitions_does_not_matter(
    partitions: list[Log], choices: list[int]
) -> None:
    one, one_counts = without_restart(partitions, [0])
    other, other_counts = without_restart(partitions, choices)
    assert [as_comparable(o) for o in one] == [as_comparable(o) for o in other]
    assert one_counts == other_counts


@settings(max_examples=60, deadline=None)
@given(logs(), st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_every_record_has_exactly_one_outcome(partitions: list[Log], choices: list[int]) -> None:
    aligner = Aligner(PLANT, context_ticks=CONTEXT_TICKS)
    for number, record in enumerate(interleave(partitions, choices, {}), start=1):
        push(aligner, record)
        assert aligner.total().read == number
    aligner.flush()
    assert aligner.total().pending == 0
    for part, counts in aligner.counts().items():
        log = next(log for log in partitions if log.records and log.records[0].topic == part.topic)
        assert counts.read == len(log.records)
    assert all(isinstance(part, TopicPartition) for part in aligner.positions())
