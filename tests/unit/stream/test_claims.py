"""Large records: whatever the value, it comes back as it was, or it is refused with the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from fusion.alignment import admit, dead_letter
from fusion.errors import (
    DeadLetterReason,
    InputError,
    ObjectStoreUnavailableError,
    RecordError,
)
from fusion.plant import Plant, StreamSender, parse_plant
from fusion.schema import (
    CLAIM_HEADER,
    MAX_CLAIMED_BYTES,
    MAX_RECORD_BYTES,
    Message,
    Record,
    TelemetryBatch,
)
from fusion.stream.claim_resolver import ClaimResolver
from fusion.stream.claims import CLAIM_THRESHOLD_BYTES, Claim, ClaimCheckPublisher
from fusion.stream.intake import Gate, align_recorded
from fusion.stream.reading import read_to_end
from tests.claims import Clock, Store, claimed, refused, stored
from tests.clocks import START_NS

THRESHOLD = 64


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(tmp_path / "broker.sqlite")


def sender(broker: EmbeddedBroker, store: Store, clock: Clock) -> ClaimCheckPublisher:
    return ClaimCheckPublisher(
        EmbeddedPublisher(broker), store, clock=clock, threshold_bytes=THRESHOLD
    )


# ---------------------------------------------------------------------------- laws


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.binary(max_size=3 * THRESHOLD) | st.binary(min_size=63, max_size=66)))
def test_every_value_comes_back_and_only_large_ones_leave_the_broker(
    values: list[bytes], broker: EmbeddedBroker, store: Store, clock: Clock
) -> None:
    reader = EmbeddedSource(broker, ["rig.video"], "test")
    reader.seek(reader.end_offsets())
    publisher = sender(broker, store, clock)
    sent = [Message("rig.video", f"k{n}", v, {"seq": str(n)}) for n, v in enumerate(values)]
    publisher.publish(sent)
    publisher.close()
    records = list(read_to_end(reader))
    reader.close()
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert [resolver.resolve(r).value for r in records] == values
    assert [r.key for r in records] == [m.key for m in sent]
    for record, message in zip(records, sent, strict=True):
        is_large = len(message.value) > THRESHOLD
        assert (CLAIM_HEADER in record.headers) == is_large
        assert len(record.value) == (0 if is_large else len(message.value))
        assert record.headers.items() >= message.headers.items()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(min_size=1, max_size=40), changed=st.binary(max_size=40))
def test_whatever_else_lies_there_is_refused_at_once(
    content: bytes, changed: bytes, store: Store, clock: Clock
) -> None:
    record = stored(content, store)
    store.put(record.headers[CLAIM_HEADER], changed)
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    if changed == content:
        assert resolver.resolve(record).value == content
    else:
        assert refused(resolver, record) is DeadLetterReason.CLAIM_MISMATCH
    assert clock.slept_s == []


DAY = "2026-01-01"
DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "key",
    [
        f"../rig/{DAY}/{DIGEST}",
        f"rig/../{DAY}/{DIGEST}",
        f"/rig/{DAY}/{DIGEST}",
        f"s3://rig/{DAY}/{DIGEST}",
        f"https://evil.example/rig/{DAY}/{DIGEST}",
        f"file:///rig/{DAY}/{DIGEST}",
        f"other/{DAY}/{DIGEST}",
        f"rigs/{DAY}/{DIGEST}",
        f"rig/{DAY}/{DIGEST}\n",
        f"rig/{DAY}/{DIGEST.upper()}",
        f"rig/{DAY}/{'0' * 64}",
        f"rig/{DAY}//{DIGEST}",
        f"rig/{DIGEST}",
        "",
        "\udcff",
    ],
)
def test_a_reference_leads_nowhere_but_to_an_object_of_the_plant(
    key: str, store: Store, clock: Clock
) -> None:
    record = claimed(b"x", **{CLAIM_HEADER: key})
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, record) is DeadLetterReason.HEADERS
    assert store.num_tries == 0


def test_a_dot_in_the_prefix_is_a_dot(store: Store, clock: Clock) -> None:
    record = claimed(b"x", **{CLAIM_HEADER: f"aXb/{DAY}/{DIGEST}"})
    resolver = ClaimResolver(store, prefix="a.b", clock=clock)
    assert refused(resolver, record) is DeadLetterReason.HEADERS


@pytest.mark.parametrize("length", ["", "-1", "1.5", "ten", "1" * 30, "٣", "\udcff"])
def test_a_length_must_be_a_length(length: str, store: Store, clock: Clock) -> None:
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, claimed(b"x", length=length)) is DeadLetterReason.HEADERS
    assert store.num_tries == 0


def test_what_is_announced_too_large_is_not_fetched(store: Store, clock: Clock) -> None:
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    record = claimed(b"x", length=str(MAX_CLAIMED_BYTES + 1))
    assert refused(resolver, record) is DeadLetterReason.TOO_LARGE
    assert store.num_tries == 0


def test_a_value_beside_a_reference_is_refused(store: Store, clock: Clock) -> None:
    record = stored(b"x", store)
    both = Record("t", 0, 0, "k", b"x", record.headers, START_NS)
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, both) is DeadLetterReason.HEADERS


# ---------------------------------------------------------------------------- publishing


def test_nothing_is_published_when_a_value_cannot_be_stored(
    broker: EmbeddedBroker, clock: Clock, tmp_path: Path
) -> None:
    blocked = tmp_path / "file-in-the-way"
    blocked.write_bytes(b"")
    broker.create_topic("rig.video")
    publisher = sender(broker, Store(blocked, clock), clock)
    with pytest.raises(ObjectStoreUnavailableError):
        publisher.publish([Message("rig.video", "k", b"s"), Message("rig.video", "k", b"x" * 99)])
    publisher.close()
    reader = EmbeddedSource(broker, ["rig.video"], "test")
    assert list(read_to_end(reader)) == []
    reader.close()


def test_a_value_too_large_for_a_claim_stores_nothing(
    broker: EmbeddedBroker, store: Store, clock: Clock
) -> None:
    publisher = sender(broker, store, clock)
    large = Message("rig.video", "k", bytes(MAX_CLAIMED_BYTES + 1))
    with pytest.raises(InputError, match="not have more than 67108864 bytes, got 67108865"):
        publisher.publish([Message("rig.video", "k", b"x" * 99), large])
    publisher.close()
    assert list(store.list("rig")) == []


def test_the_default_threshold_is_below_what_the_broker_takes() -> None:
    assert CLAIM_THRESHOLD_BYTES == 1_000_000 < MAX_RECORD_BYTES


# ---------------------------------------------------------------------------- stored records

PLANT: Plant = parse_plant(
    """
prefix: rig
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [{name: level, unit: m, range: [0, 1]}]}
""",
    origin="rig.yaml",
)


def large_telemetry(num_rows: int) -> TelemetryBatch:
    t_R_ns = START_NS - np.arange(num_rows, dtype=np.int64)[::-1]
    cells = (num_rows, 1)
    return TelemetryBatch(
        "process",
        ("level",),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.zeros(cells),
        np.zeros(cells, np.uint8),
        np.zeros(cells, np.uint32),
    )


def test_stored_records_come_with_values_and_refused_ones_are_refused_at_the_gate(
    store: Store, clock: Clock
) -> None:
    message = StreamSender(PLANT, "process", source="t", epoch="b").message(large_telemetry(200))
    claim = Claim.of(message.value, prefix="rig", now_ns=START_NS)
    headers = {**message.headers, **claim.to_headers()}
    good = Record(message.topic, 0, 0, message.key, b"", headers, START_NS)
    bad = Record(message.topic, 0, 1, message.key, b"", headers | {"sha256": "0"}, START_NS)
    store.put(claim.key, message.value)
    resolver = ClaimResolver(store, prefix="rig", clock=clock, patience_s=None, missing_pauses_s=())
    gate = Gate(resolver.resolve)
    assert gate.of(PLANT).admit(good)[1].stream == "process"
    with pytest.raises(RecordError):
        gate.of(PLANT).admit(bad)
    assert list(align_recorded([good, bad], PLANT, gate))
    assert list(align_recorded([bad], PLANT, gate)) == []
    store.is_away = True
    with pytest.raises(ObjectStoreUnavailableError):
        list(align_recorded([good], PLANT, gate))
    assert clock.slept_s == []


def test_the_gate_takes_claimed_values_above_the_bound_of_the_broker(
    store: Store, clock: Clock
) -> None:
    batch = large_telemetry(200_000)
    message = StreamSender(PLANT, "process", source="t", epoch="b").message(batch)
    assert len(message.value) > MAX_RECORD_BYTES
    inline = Record(message.topic, 0, 0, message.key, message.value, message.headers, START_NS)
    with pytest.raises(RecordError, match="must not be larger than"):
        admit(inline, PLANT)
    claim = Claim.of(message.value, prefix="rig", now_ns=START_NS)
    store.put(claim.key, message.value)
    headers = {**message.headers, **claim.to_headers()}
    record = Record(message.topic, 0, 0, message.key, b"", headers, START_NS)
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert admit(resolver.resolve(record), PLANT)[0].stream == "process"
    letter = dead_letter(record, RecordError(DeadLetterReason.CLAIM_MISSING, "gone"), PLANT)
    assert letter.headers[f"original-{CLAIM_HEADER}"] == claim.key
    assert letter.value == b""
