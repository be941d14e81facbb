"""Large records: whatever the value, it comes back as it was, or it is refused with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from connectors.object_store import LocalObjectStore
from fusion.alignment import admit, dead_letter
from fusion.errors import (
    DeadLetterReason,
    InputError,
    ObjectStoreUnavailableError,
    RecordError,
)
from fusion.plant import NANOSECONDS, Plant, StreamSender, parse_plant
from fusion.schema import (
    CLAIM_HEADER,
    MAX_CLAIMED_BYTES,
    MAX_RECORD_BYTES,
    Message,
    Record,
    TelemetryBatch,
)
from fusion.stream.claims import (
    CLAIM_THRESHOLD_BYTES,
    MISSING_PAUSES_S,
    PATIENCE_S,
    Claim,
    ClaimCheckPublisher,
    ClaimResolver,
)
from fusion.stream.intake import Gate, align_recorded
from fusion.stream.reading import read_to_end
from tests.clocks import START_NS, HandClock

THRESHOLD = 64


class Clock(HandClock):
    """A clock that lets something happen while somebody waits."""

    def __init__(self) -> None:
        super().__init__(START_NS)
        self.meanwhile: Callable[[], object] = lambda: None

    def sleep(self, duration_s: float) -> None:
        super().sleep(duration_s)
        self.meanwhile()


class Store(LocalObjectStore):
    """A folder that can be away: at once, or only after a while."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock
        self.is_away = False
        self.hangs_s = 0.0
        self.num_tries = 0

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        self.num_tries += 1
        if self.is_away:
            self.clock.pass_s(self.hangs_s)
            raise ObjectStoreUnavailableError("the store is away")
        return super().get(key, max_bytes=max_bytes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    (tmp_path / "objects").mkdir()  # (a folder that is not there is a store that is away)
    return Store(tmp_path / "objects", clock)


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(tmp_path / "broker.sqlite")


def sender(broker: EmbeddedBroker, store: Store, clock: Clock) -> ClaimCheckPublisher:
    return ClaimCheckPublisher(
        EmbeddedPublisher(broker), store, clock=clock, threshold_bytes=THRESHOLD
    )


def claimed(content: bytes, **changed: str) -> Record:
    headers = Claim.of(content, prefix="rig", now_ns=START_NS).to_headers() | {"name": "Ü"}
    return Record("rig.video", 0, 7, "key", b"", headers | changed, START_NS)


def stored(content: bytes, store: Store) -> Record:
    record = claimed(content)
    store.put(record.headers[CLAIM_HEADER], content)
    return record


def refused(resolver: ClaimResolver, record: Record) -> DeadLetterReason:
    with pytest.raises(RecordError) as caught:
        resolver.resolve(record)
    return caught.value.reason


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


# ---------------------------------------------------------------------------- a missing object


def test_an_object_that_comes_a_moment_later_is_found(store: Store, clock: Clock) -> None:
    record = claimed(b"x" * 99)
    key = record.headers[CLAIM_HEADER]
    clock.meanwhile = lambda: len(clock.slept_s) == 2 and store.put(key, b"x" * 99)
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert resolver.resolve(record).value == b"x" * 99
    assert clock.slept_s == list(MISSING_PAUSES_S[:2])


def test_an_object_that_does_not_come_is_missing(store: Store, clock: Clock) -> None:
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, claimed(b"gone")) is DeadLetterReason.CLAIM_MISSING
    assert clock.slept_s == list(MISSING_PAUSES_S)


def test_a_flood_of_missing_objects_takes_a_tenth_of_the_time(store: Store, clock: Clock) -> None:
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    for n in range(500):
        assert refused(resolver, claimed(b"%d" % n)) is DeadLetterReason.CLAIM_MISSING
        clock.pass_s(0.1)
    assert 2 * sum(MISSING_PAUSES_S) < sum(clock.slept_s) < 0.12 * (clock.t_ns - START_NS) / 1e9


# ---------------------------------------------------------------------------- a store that is away


def test_a_store_that_comes_back_in_time_costs_no_record(store: Store, clock: Clock) -> None:
    record = stored(b"x" * 99, store)
    store.is_away = True

    def mend() -> None:
        store.is_away = clock.t_ns - START_NS < 20 * NANOSECONDS

    clock.meanwhile = mend
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert resolver.resolve(record).value == b"x" * 99
    assert clock.slept_s == sorted(clock.slept_s)


def test_a_store_that_stays_away_is_waited_for_once(store: Store, clock: Clock) -> None:
    record = stored(b"x" * 99, store)
    store.is_away = True
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
    assert PATIENCE_S <= sum(clock.slept_s) < PATIENCE_S + 5
    clock.slept_s.clear()
    for n in range(100):
        tries = store.num_tries
        assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
        assert store.num_tries == tries + 1, n
    assert clock.slept_s == []
    store.is_away = False
    assert resolver.resolve(record).value == b"x" * 99
    store.is_away = True
    assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
    assert sum(clock.slept_s) >= PATIENCE_S, "its patience is whole again"


def test_tries_that_hang_take_a_tenth_of_the_time(store: Store, clock: Clock) -> None:
    record = stored(b"x" * 99, store)
    store.is_away, store.hangs_s = True, 2.0
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    refused(resolver, record)
    began_ns, tries = clock.t_ns, store.num_tries
    for _ in range(2_000):
        assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
        clock.pass_s(0.1)
    hung_s = (store.num_tries - tries) * 2.0
    assert 10 < hung_s < 0.12 * (clock.t_ns - began_ns) / 1e9


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_changes_no_patience(step_s: float, store: Store, clock: Clock) -> None:
    record = stored(b"x" * 99, store)
    store.is_away = True
    clock.meanwhile = lambda: len(clock.slept_s) == 2 and clock.set_s(step_s)
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
    assert PATIENCE_S <= sum(clock.slept_s) < PATIENCE_S + 5
    clock.slept_s.clear()
    clock.set_s(-step_s)
    assert refused(resolver, record) is DeadLetterReason.CLAIM_UNAVAILABLE
    assert clock.slept_s == [], "it is given up still"
    store.is_away = False
    assert resolver.resolve(record).value == b"x" * 99


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_ends_no_rest(step_s: float, store: Store, clock: Clock) -> None:
    resolver = ClaimResolver(store, prefix="rig", clock=clock)
    for n in range(2):
        assert refused(resolver, claimed(b"%d" % n)) is DeadLetterReason.CLAIM_MISSING
        clock.set_s(step_s)
    assert clock.slept_s == list(MISSING_PAUSES_S)


def test_the_caller_may_wait_in_its_own_way(store: Store, clock: Clock) -> None:
    class StopWaitingError(Exception):
        pass

    def give_up(_duration_s: float) -> None:
        raise StopWaitingError

    record = stored(b"x" * 99, store)
    store.is_away = True
    resolver = ClaimResolver(store, prefix="rig", clock=clock, wait=give_up)
    with pytest.raises(StopWaitingError):
        resolver.resolve(record)


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
