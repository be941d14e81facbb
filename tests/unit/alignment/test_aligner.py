"""What ticks say: order does not matter, absence is absence, every record is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Admitted, Aligner, Counts, Observation, Outcome
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import (
    AudioChunk,
    Envelope,
    Payload,
    Quality,
    Record,
    TelemetryBatch,
    VideoFrame,
)

CONTEXT_TICKS = 4
FIRST_TICK = 200  # 100 s of event time, half a second each.
PLANT: Plant = parse_plant(
    """
prefix: pair
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
allowed_lateness_s: 1
streams:
  - {name: process, modality: telemetry, rate_hz: 4, max_age_s: 1, tags: [
      {name: level, unit: m, range: [0, 1]}, {name: heat, unit: K, range: [0, 1]}]}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16, max_age_s: 1}
""",
    origin="pair.yaml",
)
EAR: Plant = parse_plant(
    """
prefix: ear
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams: [{name: ear, modality: audio, sample_rate_hz: 4000}]
""",
    origin="ear.yaml",
)


def telemetry(
    t_s: float, *rows: tuple[float, float], quality: Quality = Quality.GOOD
) -> TelemetryBatch:
    t_R_ns = np.array([round((t_s + i / 4) * NANOSECONDS) for i in range(len(rows))], np.int64)
    cells = (len(rows), 2)
    return TelemetryBatch(
        "process",
        ("level", "heat"),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.array(rows, np.float64),
        np.full(cells, quality, np.uint8),
        np.zeros(cells, np.uint32),
    )


def steady(t_s: float, value: float = 0.5) -> TelemetryBatch:
    return telemetry(t_s, (value, value), (value, value))


def picture(t_s: float, shade: int = 7) -> VideoFrame:
    return VideoFrame("eye", round(t_s * NANOSECONDS), np.full((16, 16, 3), shade, np.uint8))


class Desk:
    """An aligner, and the records that are put on it, one partition for each stream."""

    def __init__(self, plant: Plant = PLANT) -> None:
        self.aligner = Aligner(plant, context_ticks=CONTEXT_TICKS)
        self._plant = plant
        self._offsets: Counter[str] = Counter()

    def put(self, payload: Payload, *, seq: int | None = None) -> Outcome:
        offset = self._offsets[payload.stream]
        self._offsets[payload.stream] += 1
        seq = offset if seq is None else seq
        record = Record(payload.stream, 0, offset, "", b"", {}, 0)
        envelope = Envelope(str(seq), "", "", f"x/{payload.stream}", "", seq, "boot")
        stream = self._plant.stream(payload.stream)
        return self.aligner.take(record, Admitted.of(envelope, payload, stream))

    @property
    def total(self) -> Counts:
        return self.aligner.total()


def by_tick(observations: list[Observation]) -> dict[int, Observation]:
    return {observation.tick: observation for observation in observations}


def as_comparable(observation: Observation) -> tuple[Any, ...]:
    return (
        observation.tick,
        dict(observation.usable),
        {name: values.tobytes() for name, values in observation.senses.items()},
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_missing(broken: float) -> None:
    desk = Desk()
    desk.put(telemetry(100, (broken, 0.25), (broken, 0.25)))
    (tick,) = desk.aligner.flush()
    assert np.isnan(tick.senses["process"][:, 0]).all()
    assert tick.senses["process"][:, 1].tolist() == [0.25, 0.25]
    assert tick.usable["process"] == 0.5


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_does_not_replace_the_one_before(broken: float) -> None:
    desk = Desk()
    desk.put(telemetry(100, (0.75, 0.25), (broken, 0.25)))
    (tick,) = desk.aligner.flush()
    assert tick.senses["process"][:, 0].tolist() == [0.75, 0.75]


@pytest.mark.parametrize("quality", list(Quality))
def test_only_good_and_uncertain_values_are_used(quality: Quality) -> None:
    desk = Desk()
    desk.put(telemetry(100, (0.5, 0.5), quality=quality))
    (tick,) = desk.aligner.flush()
    assert tick.is_present("process") == (quality <= Quality.UNCERTAIN)


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(12)), st.integers(0, 11))
def test_out_of_order_within_the_lateness_gives_the_same_ticks(
    order: list[int], repeated: int
) -> None:
    patient = PLANT.model_copy(update={"allowed_lateness_s": 10.0})
    payloads: list[Payload] = []
    for i in range(6):
        payloads += [steady(100 + i / 2, i / 10), picture(100 + i / 2, i)]
    ordered, shuffled = Desk(patient), Desk(patient)
    for seq, payload in enumerate(payloads):
        ordered.put(payload, seq=seq)
    for seq in [*order, repeated]:
        shuffled.put(payloads[seq], seq=seq)
    expected = [as_comparable(o) for o in ordered.aligner.flush()]
    assert len(expected) == 6
    assert [as_comparable(o) for o in shuffled.aligner.flush()] == expected
    assert shuffled.total == Counts(scored=12, duplicate=1)


def test_of_two_values_at_one_time_the_later_sent_counts_in_any_order() -> None:
    for seqs in ([0, 1], [1, 0]):
        desk = Desk()
        for seq in seqs:
            desk.put(steady(100, 0.25 + seq / 2), seq=seq)
        (tick,) = desk.aligner.flush()
        assert (tick.senses["process"] == 0.75).all()


def test_a_repeat_is_counted_and_says_nothing() -> None:
    desk = Desk()
    assert desk.put(steady(100, 0.5), seq=0) is Outcome.PENDING
    assert desk.put(steady(100, 0.9), seq=0) is Outcome.DUPLICATE
    (tick,) = desk.aligner.flush()
    assert (tick.senses["process"] == 0.5).all()
    assert desk.total == Counts(scored=1, duplicate=1)


def test_a_record_behind_the_watermark_is_counted_late_and_says_nothing() -> None:
    desk = Desk()
    desk.put(picture(102, 2), seq=1)
    assert desk.put(picture(101, 1), seq=2) is Outcome.PENDING  # On the edge of the lateness.
    assert desk.put(picture(100.9, 9), seq=0) is Outcome.LATE
    ticks = by_tick(desk.aligner.flush())
    assert FIRST_TICK + 1 not in ticks
    assert desk.total == Counts(scored=2, late=1)


def test_a_tick_closes_when_every_stream_has_passed_it_by_the_lateness() -> None:
    desk = Desk()
    desk.put(steady(100))
    desk.put(steady(103))
    desk.put(picture(100))
    assert desk.aligner.closed() == []
    desk.put(picture(101.4))
    assert desk.aligner.closed() == []
    desk.put(picture(101.5))
    assert [o.tick for o in desk.aligner.closed()] == [FIRST_TICK]


def test_a_silent_stream_is_absent_after_its_maximum_age_and_not_zero() -> None:
    desk = Desk()
    desk.put(steady(100, 0.5))
    for i in range(8):
        desk.put(picture(100 + i / 2))
    ticks = desk.aligner.flush()
    assert [o.is_present("process") for o in ticks] == [True] * 3 + [False] * 5
    assert all("process" not in o.senses and "process" not in o.usable for o in ticks[3:])
    assert all(o.is_present("eye") for o in ticks)


def test_a_value_is_held_to_its_maximum_age_and_no_longer() -> None:
    desk = Desk()
    desk.put(telemetry(100, (0.5, 0.5)))
    for i in range(4):
        desk.put(picture(100 + i / 2))
    ticks = by_tick(desk.aligner.flush())
    # Slots end at 100.25, 100.5, 100.75 and 101.0: the last is one second old, just young enough.
    held = np.concatenate([ticks[FIRST_TICK + i].senses["process"] for i in range(2)])
    assert (held == 0.5).all()
    assert not ticks[FIRST_TICK + 2].is_present("process")


def test_each_tag_ages_on_its_own() -> None:
    desk = Desk()
    desk.put(telemetry(100, (0.5, 0.25)))
    desk.put(telemetry(100.5, (np.nan, 0.3)))
    desk.put(telemetry(101, (np.nan, 0.4)))
    third = by_tick(desk.aligner.flush())[FIRST_TICK + 2]
    assert np.isnan(third.senses["process"][:, 0]).all()
    assert np.isfinite(third.senses["process"][:, 1]).all()
    assert third.usable["process"] == 0.5


def test_a_frame_is_held_to_its_maximum_age_and_no_longer() -> None:
    desk = Desk()
    desk.put(picture(100, 7))
    for i in range(4):
        desk.put(steady(100 + i / 2))
    assert [o.is_present("eye") for o in desk.aligner.flush()] == [True, True, False, False]


@pytest.mark.parametrize(("heard", "is_present"), [(1600, True), (1599, False)])
def test_sound_is_there_from_four_fifths_of_a_tick_and_never_held(
    heard: int, is_present: bool
) -> None:
    desk = Desk(EAR)
    sound = np.ones(2000 + heard, np.int16)
    desk.put(AudioChunk("ear", 100 * NANOSECONDS, 4000, 0, 0.0, 0, sound))
    first, second = desk.aligner.flush()
    assert first.usable["ear"] == 1.0
    assert second.is_present("ear") == is_present


def test_an_idle_stream_lets_ticks_close() -> None:
    desk = Desk()
    desk.put(steady(100))
    desk.put(steady(103))
    assert desk.aligner.closed() == []
    desk.aligner.tell_idle(["eye"])
    closed = desk.aligner.closed()
    assert [o.tick for o in closed] == [FIRST_TICK + i for i in range(4)]
    assert not any(o.is_present("eye") for o in closed)


def test_old_records_of_a_returning_idle_stream_are_late() -> None:
    desk = Desk()
    desk.put(steady(100))
    desk.put(steady(103))
    desk.aligner.tell_idle(["eye"])
    desk.aligner.closed()
    assert desk.put(picture(101.9)) is Outcome.LATE
    assert desk.put(picture(102)) is Outcome.PENDING
    desk.aligner.flush()
    assert desk.total == Counts(scored=3, late=1)


def test_a_returning_stream_holds_ticks_open_again() -> None:
    desk = Desk()
    desk.put(steady(100))
    desk.put(steady(103))
    desk.aligner.tell_idle(["eye"])
    assert len(desk.aligner.closed()) == 4
    desk.put(picture(102))
    desk.put(steady(110))
    assert desk.aligner.closed() == []


def test_silence_longer_than_the_context_is_skipped() -> None:
    desk = Desk()
    for t_s in (100, 100_000):
        desk.put(steady(t_s))
        desk.put(picture(t_s))
    # Three ticks show the values (the last row is of 100.25 s), then a context of empty ones.
    assert [o.tick for o in desk.aligner.flush()] == [
        *range(FIRST_TICK, FIRST_TICK + 3 + CONTEXT_TICKS),
        200_000,
    ]


def test_silence_shorter_than_the_context_is_not_skipped() -> None:
    desk = Desk()
    for t_s in (100, 102.5):
        desk.put(steady(t_s))
        desk.put(picture(t_s))
    assert [o.tick for o in desk.aligner.flush()] == [FIRST_TICK + i for i in range(6)]
