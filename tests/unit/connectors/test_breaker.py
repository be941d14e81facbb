"""The breaker's laws: closed while calls succeed, one try after each pause, never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.triton_io.breaker import FAILURES_TO_OPEN, MAX_PAUSE_S, Breaker
from fusion.errors import InferenceUnavailableError


class Time:
    """A clock that the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def may_enter(breaker: Breaker) -> bool:
    try:
        breaker.enter()
    except InferenceUnavailableError:
        return False
    return True


@given(st.lists(st.booleans(), max_size=60))
def test_whatever_happened_a_call_is_let_through_within_the_longest_pause(
    outcomes: list[bool],
) -> None:
    time = Time()
    breaker = Breaker("it", time)
    failures = 0
    for is_answered in outcomes:
        if not may_enter(breaker):
            assert failures >= FAILURES_TO_OPEN
            time.now_s += MAX_PAUSE_S
            assert may_enter(breaker)
        if is_answered:
            breaker.succeeded()
            failures = 0
        else:
            breaker.failed()
            failures += 1
        assert breaker.is_open == (failures >= FAILURES_TO_OPEN)


def test_after_a_pause_one_call_tries_and_the_others_wait() -> None:
    time = Time()
    breaker = Breaker("it", time)
    for _ in range(FAILURES_TO_OPEN):
        breaker.enter()
        breaker.failed()
    with pytest.raises(
        InferenceUnavailableError, match=r"5 times in a row; it is asked again in 0"
    ):
        breaker.enter()
    time.now_s += 1.0
    assert [may_enter(breaker) for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert all(may_enter(breaker) for _ in range(3))
