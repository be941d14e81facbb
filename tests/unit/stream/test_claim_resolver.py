"""Waiting for large values: for as long as it is good for the plant, and no longer."""

from __future__ import annotations

import pytest

from fusion.errors import DeadLetterReason
from fusion.plant import NANOSECONDS
from fusion.schema import CLAIM_HEADER
from fusion.stream.claim_resolver import MISSING_PAUSES_S, PATIENCE_S, ClaimResolver
from tests.claims import Clock, Store, claimed, refused, stored
from tests.clocks import START_NS

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
