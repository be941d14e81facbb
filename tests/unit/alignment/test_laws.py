"""The aligner against the slow and obvious one: however records come, the ticks are the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Admitted, Aligner, Outcome
from fusion.plant import AudioStream, Plant, Stream, TelemetryStream, VideoStream, parse_plant
from fusion.schema import AudioChunk, Envelope, Payload, Quality, Record, TelemetryBatch, VideoFrame
from tests.unit.alignment.naive import NS, Event, LetGo, NaiveAligner, Sent, Tick

CONTEXT_TICKS = 3
T0_NS = 1_000 * NS
MS = NS // 1_000
BASE_TEXT = """
prefix: five
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: fast
    modality: telemetry
    rate_hz: 10
    tags:
      - {name: level, unit: m, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
      - {name: heat, unit: K, range: [0, 1]}
  - {name: slow, modality: telemetry, rate_hz: 1, tags: [{name: flow, unit: l, range: [0, 1]}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 4, width_px: 16, height_px: 16}
  - {name: side, modality: video, rate_hz: 1, width_px: 16, height_px: 16}
"""
BASE: Plant = parse_plant(BASE_TEXT, origin="five.yaml")


def is_eye(stream: Stream) -> bool:
    return isinstance(stream, VideoStream)


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """One or two cameras, another age and another lateness for each stream; plain clocks.

    More frames per tick than the camera has show what becomes of parts without one.
    """
    streams = [
        stream.model_copy(
            update={
                "max_age_s": draw(st.sampled_from([0.3, 0.5, 1.2, 3.0])),
                "allowed_lateness_s": draw(st.sampled_from([None, 0.0, 0.4, 2.0])),
                **({"frames_per_tick": draw(st.sampled_from([1, 2, 3]))} if is_eye(stream) else {}),
            }
        )
        for stream in BASE.streams[: draw(st.sampled_from([4, 5]))]
    ]
    lateness_s = draw(st.sampled_from([0.0, 0.7, 1.5]))
    return BASE.model_copy(update={"streams": tuple(streams), "allowed_lateness_s": lateness_s})


@st.composite
def payloads_of(draw: st.DrawFn, stream: Stream) -> list[Sent]:
    """What a stream says, in the order of time, without overlap; now and then it is silent."""
    sent: list[Sent] = []
    now_ns = T0_NS + draw(st.integers(0, 900)) * MS + draw(st.sampled_from([0, 1, 130_000]))
    for seq in range(draw(st.integers(1, 7))):
        now_ns += draw(st.sampled_from([0, 0, 1, 137, 250, 500, 3_700])) * MS
        if isinstance(stream, TelemetryStream):
            payload = draw(batches(stream, now_ns))
            now_ns = int(payload.t_source_R_ns.max()) + MS
        elif isinstance(stream, AudioStream):
            num_samples = draw(st.sampled_from([400, 1000, 1601, 2000]))
            begin = seq * 4000
            samples_N = (np.arange(begin, begin + num_samples) % 30_000 + 1).astype(np.int16)
            length_ns = num_samples * NS // 4000
            payload = AudioChunk(
                stream.name, now_ns, 4000, begin, 0.0, 0, samples_N, t_receive_ns=now_ns + length_ns
            )
            now_ns += length_ns
        else:
            shade = np.full((16, 16, 3), seq + 1, np.uint8)
            payload = VideoFrame(stream.name, now_ns, shade, t_receive_ns=now_ns)
            now_ns += 20 * MS
        sent.append(Sent(payload, seq))
    return sent


@st.composite
def batches(draw: st.DrawFn, stream: TelemetryStream, start_ns: int) -> TelemetryBatch:
    """One to five rows within half a second, in any order, of some of the tags."""
    names = [tag.name for tag in stream.tags]
    tags = draw(st.permutations(names))[: draw(st.integers(1, len(names)))]
    offsets = draw(st.lists(st.sampled_from([0, 1, 50, 99, 100, 333, 499]), min_size=1, max_size=5))
    t_R_ns = np.array([start_ns + offset * MS for offset in offsets], np.int64)
    size = len(offsets) * len(tags)
    values = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, np.nan, np.inf])
    qualities = st.sampled_from([Quality.GOOD] * 4 + list(Quality))
    cells = (len(offsets), len(tags))
    return TelemetryBatch(
        stream.name,
        tuple(tags),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(cells),
        np.array(draw(st.lists(qualities, min_size=size, max_size=size)), np.uint8).reshape(cells),
        np.zeros(cells, np.uint32),
    )


def times_ns(payload: Payload) -> tuple[int, int]:
    """The oldest and the newest event time, by the source's clock."""
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns.min()), int(payload.t_source_R_ns.max())
    if isinstance(payload, AudioChunk):
        return payload.t_start_ns, payload.t_start_ns + len(payload.samples_N) * NS // 4000
    return payload.t_capture_ns, payload.t_capture_ns


@st.composite
def arrivals(draw: st.DrawFn, sent: list[Sent], plant: Plant, jitter_s: float | None) -> list[Sent]:
    """One stream's records as a partition holds them: out of order, repeated.

    Without ``jitter_s`` none comes later than its stream's lateness allows to its oldest value.
    """
    keyed: list[tuple[float, Sent]] = []
    for each in sent:
        oldest_ns, newest_ns = times_ns(each.payload)
        lateness_ns = plant.lateness_ns(plant.stream(each.payload.stream))
        most_ns = lateness_ns - (newest_ns - oldest_ns) if jitter_s is None else jitter_s * NS
        key = newest_ns + draw(st.sampled_from([0, 0, 0.5, 1])) * max(0, most_ns)
        keyed.append((key, each))
        if draw(st.sampled_from([False, False, True])):
            keyed.append((key + draw(st.sampled_from([0, 1, 9])) * NS, each))
    return [each for _, each in sorted(keyed, key=lambda pair: pair[0])]


def merged(parts: list[list[Sent]], choices: list[int]) -> list[Sent]:
    """The parts in one order, each in its own."""
    left = [list(part) for part in parts if part]
    order: list[Sent] = []
    while left:
        index = choices[len(order) % len(choices)] % len(left)
        order.append(left[index].pop(0))
        left = [part for part in left if part]
    return order


def run(plant: Plant, events: list[Event]) -> tuple[list[Tick], list[Outcome]]:
    """What the aligner makes of ``events``, closing ticks after each."""
    aligner = Aligner(plant, context_ticks=CONTEXT_TICKS)
    offsets: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    observations = []
    for event in events:
        if isinstance(event, LetGo):
            aligner.tell_idle([event.stream])
        else:
            name = event.payload.stream
            topic = plant.topic(plant.stream(name).modality)
            record = Record(topic, 0, offsets[topic], "", b"", {}, t_broker_ns=T0_NS)
            offsets[topic] += 1
            envelope = Envelope("", "", "", f"x/{name}", "", event.seq, event.epoch)
            admitted = Admitted.of(envelope, event.payload, plant.stream(name))
            outcomes.append(aligner.take(record, admitted))
        observations += aligner.closed()
        assert aligner.total().read == len(outcomes)
    observations += aligner.flush()
    total = aligner.total()
    settled = [Outcome.SCORED if o is Outcome.PENDING else o for o in outcomes]
    assert total.pending == 0
    for outcome, count in Counter(settled).items():
        assert getattr(total, outcome.value) == count
    return [Tick(o.tick, dict(o.senses), dict(o.usable)) for o in observations], settled


def as_bits(ticks: list[Tick]) -> list[object]:
    return [
        (t.tick, t.usable, {n: (v.dtype.str, v.shape, v.tobytes()) for n, v in t.senses.items()})
        for t in ticks
    ]


def disguised(sent: Sent, stream: Stream, wrong_ns: int) -> Sent:
    """The same record by ``stream``'s clock and its offset; the clocks not asked are wrong."""
    payload, offset_ns = sent.payload, stream.clock_offset_ns
    if isinstance(payload, TelemetryBatch):
        right_R_ns = payload.t_source_R_ns + offset_ns
        stamps = {
            f"t_{clock}_R_ns": right_R_ns if clock == stream.clock else right_R_ns + wrong_ns
            for clock in ("source", "server", "receive")
        }
        return replace(sent, payload=replace(payload, **stamps))
    own = "t_start_ns" if isinstance(payload, AudioChunk) else "t_capture_ns"
    asked = "t_receive_ns" if stream.clock == "receive" else own
    stamps = {
        name: getattr(payload, name) + offset_ns + (0 if name == asked else wrong_ns)
        for name in (own, "t_receive_ns")
    }
    return replace(sent, payload=replace(payload, **stamps))


choices = st.lists(st.integers(0, 4), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(plants(), choices, st.data())
def test_order_repeats_and_interleaving_change_nothing(
    plant: Plant, turns: list[int], data: st.DataObject
) -> None:
    parts = [data.draw(payloads_of(stream), label=stream.name) for stream in plant.streams]
    arrived = [data.draw(arrivals(part, plant, None)) for part in parts]
    in_order: list[Event] = [*merged(parts, [0])]
    expected, outcomes = NaiveAligner(plant, context_ticks=CONTEXT_TICKS).align(in_order)
    assert outcomes == [Outcome.SCORED] * len(in_order)

    ordered, ordered_outcomes = run(plant, in_order)
    assert as_bits(ordered) == as_bits(expected)
    assert ordered_outcomes == outcomes

    shuffled, shuffled_outcomes = run(plant, [*merged(arrived, turns)])
    assert as_bits(shuffled) == as_bits(expected)
    num_repeats = sum(map(len, arrived)) - len(in_order)
    assert Counter(shuffled_outcomes)[Outcome.SCORED] == len(in_order)
    assert Counter(shuffled_outcomes)[Outcome.DUPLICATE] == num_repeats


@settings(max_examples=60, deadline=None)
@given(plants(), choices, st.data())
def test_a_declared_offset_and_the_choice_of_clock_change_nothing(
    plant: Plant, turns: list[int], data: st.DataObject
) -> None:
    parts = [data.draw(payloads_of(stream), label=stream.name) for stream in plant.streams]
    expected, _ = NaiveAligner(plant, context_ticks=CONTEXT_TICKS).align([*merged(parts, [0])])
    streams: list[Stream] = []
    for stream in plant.streams:
        clocks = ["source", "receive", *(["server"] if stream.modality == "telemetry" else [])]
        changes = {
            "clock": data.draw(st.sampled_from(clocks)),
            "clock_offset_s": data.draw(st.sampled_from([0, 0.25, -3.125, 86_400, -900])),
        }
        streams.append(stream.model_copy(update=changes))
    off = plant.model_copy(update={"streams": tuple(streams)})
    wrong_ns = data.draw(st.integers(-(10**12), 10**18), label="wrong_ns")
    records = [
        [disguised(sent, stream, wrong_ns) for sent in part]
        for part, stream in zip(parts, streams, strict=True)
    ]
    arrived: list[Event] = [*merged(records, turns)]
    ticks, outcomes = run(off, arrived)
    assert as_bits(ticks) == as_bits(expected)
    assert outcomes == [Outcome.SCORED] * len(arrived)
    oracle, _ = NaiveAligner(off, context_ticks=CONTEXT_TICKS).align(arrived)
    assert as_bits(oracle) == as_bits(expected)


@settings(max_examples=100, deadline=None)
@given(plants(), choices, st.data())
def test_late_records_and_idle_streams_are_judged_as_the_obvious_aligner_does(
    plant: Plant, turns: list[int], data: st.DataObject
) -> None:
    parts = [data.draw(payloads_of(stream), label=stream.name) for stream in plant.streams]
    arrived = [data.draw(arrivals(part, plant, 4.0)) for part in parts]
    events: list[Event] = [*merged(arrived, turns)]
    for _ in range(data.draw(st.integers(0, 6), label="times that a stream is let go")):
        stream = data.draw(st.sampled_from(plant.streams)).name
        events.insert(data.draw(st.integers(0, len(events))), LetGo(stream))
    expected, expected_outcomes = NaiveAligner(plant, context_ticks=CONTEXT_TICKS).align(events)
    ticks, outcomes = run(plant, events)
    assert outcomes == expected_outcomes
    assert as_bits(ticks) == as_bits(expected)


def test_the_laws_can_fail() -> None:
    """A record beyond the lateness does change what is said."""
    plant = BASE.model_copy(update={"streams": BASE.streams[3:4], "allowed_lateness_s": 0.5})
    frames = [
        Sent(VideoFrame("eye", T0_NS + seq * NS, np.full((16, 16, 3), seq, np.uint8)), seq)
        for seq in range(3)
    ]
    ordered, _ = run(plant, [*frames])
    late, outcomes = run(plant, [frames[0], frames[2], frames[1]])
    assert outcomes == [Outcome.SCORED, Outcome.SCORED, Outcome.LATE]
    assert as_bits(late) != as_bits(ordered)
