"""How the streams do is told from the records alone: the same after any restart, in any order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Admitted, Aligner
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import (
    AudioChunk,
    Envelope,
    Payload,
    Record,
    StreamHealth,
    TopicPartition,
    VideoFrame,
)

MS = NANOSECONDS // 1_000
START_NS = 1_700_000_000 * NANOSECONDS
PLANT: Plant = parse_plant(
    """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
max_skew_s: 2
streams:
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
  - {name: side, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
""",
    origin="p.yaml",
)


@dataclass(frozen=True)
class Read:
    """One record as it is read."""

    record: Record
    envelope: Envelope
    payload: Payload


class Broker:
    """Gives each stream a partition of its own, and numbers what is put in."""

    def __init__(self) -> None:
        self.read: list[Read] = []
        self._offsets: Counter[str] = Counter()

    def put(
        self, stream: str, t_s: float, *, seq: int, epoch: str = "boot", lag_s: float = 0.01
    ) -> None:
        t_ns = START_NS + round(t_s * 1_000) * MS
        payload: Payload
        if stream == "ear":
            payload = AudioChunk(stream, t_ns, 4000, seq * 2000, 0, 0, np.zeros(2000, np.int16))
        else:
            payload = VideoFrame(stream, t_ns, np.zeros((16, 16, 3), np.uint8))
        t_broker_ns = t_ns + round(lag_s * 1_000) * MS
        record = Record(stream, 0, self._offsets[stream], "", b"", {}, t_broker_ns)
        self._offsets[stream] += 1
        self.read.append(Read(record, Envelope("", "", "", f"x/{stream}", "", seq, epoch), payload))


def feed(aligner: Aligner, read: list[Read], plant: Plant = PLANT) -> None:
    for each in read:
        stream = plant.stream(each.payload.stream)
        aligner.take(each.record, Admitted.of(each.envelope, each.payload, stream))
        aligner.closed()


def health(aligner: Aligner) -> dict[str, StreamHealth]:
    return {stream.stream: stream for stream in aligner.health()}


def after(broker: Broker) -> dict[str, StreamHealth]:
    aligner = Aligner(PLANT, context_ticks=4)
    feed(aligner, broker.read)
    return health(aligner)


def steady(broker: Broker, seconds: int, *, lags_s: tuple[float, float, float] = (0, 0, 0)) -> None:
    """Every half second a record of each stream; ``lags_s`` is how far each clock is behind."""
    for k in range(seconds * 2):
        for stream, lag_s in zip(("ear", "eye", "side"), lags_s, strict=True):
            broker.put(stream, k / 2 - lag_s, seq=k, lag_s=lag_s + 0.01)


def test_nothing_is_said_before_the_first_record() -> None:
    assert Aligner(PLANT, context_ticks=4).health() == []


def test_a_well_plant_is_well() -> None:
    broker = Broker()
    steady(broker, 60)
    found = after(broker)
    assert list(found) == ["ear", "eye", "side"]
    for stream in found.values():
        assert (stream.records, stream.gaps, stream.restarts, stream.late) == (120, 0, 0, 0)
        assert stream.rate_hz == 2.0
        assert (stream.is_skewed, stream.is_idle, stream.clock_jumps) == (False, False, 0)
        assert abs(stream.drift_ppm or 0) < 1
    assert found["eye"].offset_s == 0.01
    assert found["ear"].sound_drift_ppm == 0
    assert found["eye"].newest_ns == START_NS + 59_500 * MS
    assert found["eye"].t_ns == START_NS + 58_500 * MS, "health is told as of the closed ticks"


def test_gaps_restarts_repeats_and_late_records_are_counted() -> None:
    broker = Broker()
    for seq in (0, 1, 4, 3, 3):  # 2 is missing, 3 comes after 4, and twice
        broker.put("eye", 10 + seq / 2, seq=seq)
    for seq in (7, 9):  # a new epoch need not begin at 0; 8 is missing
        broker.put("eye", 13 + seq / 2, seq=seq, epoch="boot-2")
    broker.put("eye", 1, seq=10, epoch="boot-2")  # far behind its watermark
    eye = after(broker)["eye"]
    assert (eye.records, eye.gaps, eye.restarts) == (8, 2, 1)
    assert (eye.duplicate, eye.late) == (1, 1)


def test_a_stream_that_never_spoke_is_told_too() -> None:
    broker = Broker()
    broker.put("eye", 0, seq=0)
    aligner = Aligner(PLANT, context_ticks=4)
    feed(aligner, broker.read)
    aligner.tell_idle(["ear"])
    ear = health(aligner)["ear"]
    assert (ear.records, ear.rate_hz, ear.newest_ns, ear.offset_s) == (0, 0.0, None, None)
    assert ear.is_idle
    assert not health(aligner)["eye"].is_idle


def test_the_rate_of_a_stream_that_has_stopped_falls() -> None:
    broker = Broker()
    for k in range(400):
        broker.put("eye", k / 2, seq=k)
        if k < 200:
            broker.put("side", k / 2, seq=k)
    found = after(broker)
    assert found["eye"].rate_hz == 2.0
    assert found["side"].rate_hz < 1.0


def test_the_clock_that_is_off_is_skewed_and_a_declared_offset_mends_it() -> None:
    broker = Broker()
    steady(broker, 60, lags_s=(0, 0, 3))
    side = after(broker)["side"]
    assert (side.skew_s, side.is_skewed) == (3.0, True)
    mended = [
        s.model_copy(update={"clock_offset_s": -3.0 if s.name == "side" else 0.0})
        for s in PLANT.streams
    ]
    plant = PLANT.model_copy(update={"streams": tuple(mended)})
    aligner = Aligner(plant, context_ticks=4)
    feed(aligner, broker.read, plant)
    side = health(aligner)["side"]
    assert (side.skew_s, side.is_skewed) == (0.0, False)


@st.composite
def stories(draw: st.DrawFn) -> list[Read]:
    """Two minutes of three streams: lost, repeated, late; a restart and a clock that is set."""
    broker = Broker()
    fates = draw(st.lists(st.sampled_from("......lrb"), min_size=5, max_size=40))
    step_at, restart_at = draw(st.integers(0, 260)), draw(st.integers(0, 260))
    for k in range(240):
        for index, stream in enumerate(("ear", "eye", "side")):
            fate = fates[(3 * k + index) % len(fates)]
            lag_s = 2.5 if stream == "eye" and k > step_at else 0.0
            is_restarted = stream == "side" and k >= restart_at
            seq, epoch = (k - restart_at, "again") if is_restarted else (k, "boot")
            arrival_s = 0.01 + k * index % 7 / 100
            t_s = k / 2 - lag_s - (8 if fate == "b" else 0)
            if fate != "l":
                broker.put(stream, t_s, seq=seq, epoch=epoch, lag_s=lag_s + arrival_s)
            if fate == "r":
                broker.put(stream, t_s, seq=seq, epoch=epoch, lag_s=lag_s + arrival_s + 0.2)
    return broker.read


@settings(max_examples=30, deadline=None)
@given(stories(), st.data())
def test_a_restart_anywhere_tells_the_same(read: list[Read], data: st.DataObject) -> None:
    whole = Aligner(PLANT, context_ticks=4)
    feed(whole, read)
    at = data.draw(st.integers(0, len(read)), label="killed after")
    first = Aligner(PLANT, context_ticks=4)
    feed(first, read[:at])
    positions, told = first.positions(), first.health()
    second = Aligner(PLANT, context_ticks=4)
    second.restore(json.loads(json.dumps(first.snapshot())))

    def is_to_read(each: Read) -> bool:
        part = TopicPartition(each.record.topic, 0)
        return each.record.offset >= positions.get(part, 0)

    feed(second, [each for each in read[:at] if is_to_read(each)])
    counted = [stream.model_dump(exclude={"t_ns"}) for stream in second.health()]
    assert counted == [stream.model_dump(exclude={"t_ns"}) for stream in told]
    feed(second, read[at:])
    assert second.health() == whole.health()


@settings(max_examples=20, deadline=None)
@given(stories(), st.randoms(use_true_random=False))
def test_the_order_between_partitions_does_not_matter(read: list[Read], random: object) -> None:
    one, other = Aligner(PLANT, context_ticks=4), Aligner(PLANT, context_ticks=4)
    feed(one, read)
    left = {s: [r for r in read if r.payload.stream == s] for s in ("ear", "eye", "side")}
    turns = [r.payload.stream for r in read]
    random.shuffle(turns)  # type: ignore[attr-defined]
    feed(other, [left[stream].pop(0) for stream in turns])
    assert other.health() == one.health()


def test_what_is_kept_does_not_grow_with_the_stream() -> None:
    sizes: list[int] = []
    for seconds in (400, 1_200):
        broker, aligner = Broker(), Aligner(PLANT, context_ticks=4)
        steady(broker, seconds)
        feed(aligner, broker.read)
        aligner.positions()
        sizes.append(len(json.dumps(aligner.snapshot())))
    assert sizes[1] <= sizes[0] + 200
