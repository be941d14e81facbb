"""What the plant cannot use is refused at the gate, with the reason and the mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fusion.alignment import admit, dead_letter, refused_record
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import MAX_MESSAGE_BYTES, NANOSECONDS, Plant, StreamSender, parse_plant
from fusion.schema import AudioChunk, Payload, Record, TelemetryBatch, VideoFrame, encode

PLANT: Plant = parse_plant(
    """
prefix: gate
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
max_future_s: 10
streams:
  - {name: process, modality: telemetry, rate_hz: 4, clock: server, tags: [
      {name: level, unit: m, range: [0, 1]}, {name: goal, unit: m, range: [0, 1]}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
""",
    origin="gate.yaml",
)
NOW_NS = 1_000 * NANOSECONDS


def telemetry(t_ns: int = NOW_NS, tags: tuple[str, ...] = ("level",)) -> TelemetryBatch:
    t_R_ns = np.array([t_ns], np.int64)
    cells = (1, len(tags))
    return TelemetryBatch(
        "process",
        tags,
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.full(cells, 0.5),
        np.zeros(cells, np.uint8),
        np.zeros(cells, np.uint32),
    )


def sound(t_ns: int = NOW_NS, rate_hz: int = 4000) -> AudioChunk:
    return AudioChunk("ear", t_ns, rate_hz, 0, 0.0, 0, np.zeros(4000, np.int16))


def picture(t_ns: int = NOW_NS) -> VideoFrame:
    return VideoFrame("eye", t_ns, np.zeros((16, 16, 3), np.uint8))


def record(payload: Payload, *, stream: str | None = None) -> Record:
    sender = StreamSender(PLANT, stream or payload.stream, source="test", epoch="boot")
    message = sender.message(payload)
    return Record(
        message.topic, 0, 3, message.key, message.value, message.headers, t_broker_ns=NOW_NS
    )


def refused(bad: Record) -> RecordError:
    with pytest.raises(RecordError) as caught:
        admit(bad, PLANT)
    return caught.value


@pytest.mark.parametrize("payload", [telemetry(), sound(), picture()])
def test_what_fits_the_plant_is_admitted(payload: Payload) -> None:
    envelope, admitted, _ = admit(record(payload), PLANT)
    assert envelope.stream == admitted.stream == payload.stream
    assert type(admitted) is type(payload)


@pytest.mark.parametrize("subject", ["e/s/a/l/c/x/nose", "e/s/a/l/c/other/ear", "ear", ""])
def test_a_stream_that_the_plant_has_not_is_unknown(subject: str) -> None:
    good = record(sound())
    error = refused(replace(good, headers={**good.headers, "ce_subject": subject}))
    assert error.reason is DeadLetterReason.UNKNOWN_STREAM
    assert f"got {subject!r}" in str(error)
    assert "['process', 'ear', 'eye']" in str(error)


def test_another_sample_rate_is_a_mismatch() -> None:
    error = refused(record(sound(rate_hz=8000)))
    assert error.reason is DeadLetterReason.STREAM_MISMATCH
    assert "'ear' must have 4000 Hz, got 8000 Hz" in str(error)


def test_a_tag_that_the_plant_has_not_is_a_mismatch() -> None:
    error = refused(record(telemetry(tags=("level", "smell"))))
    assert error.reason is DeadLetterReason.STREAM_MISMATCH
    assert "tags of the plant file only, got also ['smell']" in str(error)


def test_a_payload_of_another_modality_is_a_mismatch() -> None:
    good = record(sound())
    error = refused(
        replace(good, value=encode(picture()), headers={**good.headers, "ce_type": "fusion.video"})
    )
    assert error.reason is DeadLetterReason.STREAM_MISMATCH
    assert "'ear' must be audio, got VideoFrame" in str(error)


@pytest.mark.parametrize("make", [telemetry, picture])
def test_event_time_may_be_ahead_of_the_broker_by_the_maximum_and_no_more(
    make: Callable[[int], Payload],
) -> None:
    limit_ns = NOW_NS + 10 * NANOSECONDS
    admit(record(make(limit_ns)), PLANT)
    error = refused(record(make(limit_ns + NANOSECONDS)))
    assert error.reason is DeadLetterReason.FUTURE_TIME
    assert "not be more than 10 s ahead of the broker, got 11.000 s ahead" in str(error)


def test_sound_is_as_new_as_its_last_sample() -> None:
    admit(record(sound(NOW_NS + 9 * NANOSECONDS)), PLANT)
    error = refused(record(sound(NOW_NS + 9 * NANOSECONDS + NANOSECONDS // 2)))
    assert error.reason is DeadLetterReason.FUTURE_TIME


def test_only_the_clock_that_the_plant_trusts_is_asked() -> None:
    far_R_ns = np.array([NOW_NS + 99 * NANOSECONDS], np.int64)
    admit(record(replace(telemetry(), t_source_R_ns=far_R_ns, t_receive_R_ns=far_R_ns)), PLANT)
    error = refused(record(replace(telemetry(), t_server_R_ns=far_R_ns)))
    assert error.reason is DeadLetterReason.FUTURE_TIME


def by_receiver(plant: Plant = PLANT, **changes: object) -> Plant:
    streams = [s.model_copy(update={"clock": "receive", **changes}) for s in plant.streams]
    return plant.model_copy(update={"streams": tuple(streams)})


@pytest.mark.parametrize(
    "payload", [replace(telemetry(), t_receive_R_ns=np.array([0], np.int64)), sound(), picture()]
)
def test_the_receivers_clock_needs_a_receive_time(payload: Payload) -> None:
    """Sound and pictures of old senders do not say when they were received: 0 is unknown."""
    unknown = payload if isinstance(payload, TelemetryBatch) else replace(payload, t_receive_ns=0)
    with pytest.raises(RecordError) as caught:
        admit(record(unknown), by_receiver())
    assert caught.value.reason is DeadLetterReason.STREAM_MISMATCH
    assert f"stream {payload.stream!r} must say when it was received" in str(caught.value)
    assert "got t_receive = 0, which is unknown" in str(caught.value)


@pytest.mark.parametrize(("offset_s", "is_future"), [(0, True), (5, False), (-5, True)])
def test_a_declared_offset_is_taken_off_before_time_is_judged(
    offset_s: float, *, is_future: bool
) -> None:
    streams = [s.model_copy(update={"clock_offset_s": offset_s}) for s in PLANT.streams]
    plant = PLANT.model_copy(update={"streams": tuple(streams)})
    ahead = record(picture(NOW_NS + 14 * NANOSECONDS))
    if not is_future:
        admit(ahead, plant)
        return
    with pytest.raises(RecordError, match=f"got {14 - offset_s}.000 s ahead"):
        admit(ahead, plant)


def test_a_dead_letter_keeps_the_bytes_and_says_where_they_lay() -> None:
    bad = record(sound(rate_hz=8000))
    letter = dead_letter(bad, refused(bad), PLANT)
    assert letter.topic == "gate.dead-letters"
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert letter.headers["reason"] == "stream-mismatch"
    assert letter.headers["original-topic"] == "gate.audio"
    assert letter.headers["original-offset"] == "3"
    assert letter.headers["original-ce_subject"] == bad.headers["ce_subject"]


@pytest.mark.parametrize(
    "giant",
    [
        Record("gate.audio", 0, 3, "key", bytes(40_000_000), {"seq": "1"}, NOW_NS),
        Record("gate.audio", 0, 3, "k" * 5_000_000, b"", {}, NOW_NS),
        Record("gate.audio", 0, 3, "key", b"", {"seq": "é" * 5_000_000}, NOW_NS),
        Record("gate.audio", 0, 3, "key", b"", {f"h{n}": "x" * 100 for n in range(60_000)}, NOW_NS),
    ],
    ids=["value", "key", "one header", "headers"],
)
def test_the_dead_letter_of_a_giant_finds_its_way_and_is_not_taken_for_the_whole(
    giant: Record,
) -> None:
    error = RecordError(DeadLetterReason.TOO_LARGE, "why " * 1_000_000)
    letter = dead_letter(giant, error, PLANT)
    texts = (letter.key, *letter.headers, *letter.headers.values())
    assert len(letter.value) + sum(len(text.encode()) for text in texts) < MAX_MESSAGE_BYTES
    kept = Record(letter.topic, 0, 0, letter.key, letter.value, letter.headers, NOW_NS)
    with pytest.raises(RecordError, match="small enough to be kept whole"):
        refused_record(kept)
