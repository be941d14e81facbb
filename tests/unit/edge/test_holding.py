"""What holds is said again: the newest, in time, and never what a wrong clock said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusion.edge.holding import Held
from fusion.plant import NANOSECONDS
from fusion.ports import Reading
from fusion.schema import Quality
from tests.clocks import START_NS

MAX_AGE_S = 4.0
HALF_NS = 2 * NANOSECONDS


def said(tag: str, value: float, at_s: float, *, dated_s: float | None = None) -> Reading:
    t_ns = START_NS + round((at_s if dated_s is None else dated_s) * NANOSECONDS)
    receive_ns = START_NS + round(at_s * NANOSECONDS)
    return Reading("process", tag, value, Quality.GOOD, t_ns, t_ns, receive_ns)


def at(t_s: float) -> int:
    return START_NS + round(t_s * NANOSECONDS)


def repeated(held: Held, t_s: float) -> dict[str, float]:
    return {each.tag: each.value for each in held.repeat(at(t_s), t_receive_ns=at(t_s))}


@given(
    values=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_the_newest_holds_in_whatever_order_it_came(
    values: list[tuple[str, int]], order: object
) -> None:
    readings = [said(tag, value, n, dated_s=n / 10) for n, (tag, value) in enumerate(values)]
    readings = [each._replace(t_receive_ns=at(100)) for each in readings]
    newest = {each.tag: each.value for each in readings}
    order.shuffle(readings)  # type: ignore[attr-defined]
    held = Held(MAX_AGE_S)
    held.note(readings)
    assert repeated(held, 100) == newest


def test_between_two_sayings_never_passes_more_than_the_age_of_the_stream() -> None:
    held = Held(MAX_AGE_S)
    held.note([said("a", 7, 0)])
    t_last_ns = at(0)
    for step in range(1, 400):
        for each in held.repeat(at(step / 10), t_receive_ns=at(step / 10) + 5):
            assert each.value == 7
            assert (each.t_source_ns, each.t_server_ns) == (at(step / 10), at(step / 10))
            assert each.t_receive_ns == at(step / 10) + 5, "also a stream by receive time goes on"
            t_last_ns = each.t_source_ns
        assert at(step / 10) - t_last_ns <= MAX_AGE_S * NANOSECONDS
    assert t_last_ns > at(35)


def test_what_was_just_said_is_not_repeated() -> None:
    held = Held(MAX_AGE_S)
    held.note([said("a", 1, 0), said("b", 2, 1.9)])
    assert repeated(held, 2) == {"a": 1}
    assert repeated(held, 2.1) == {}


def test_a_year_that_cannot_be_does_not_hold_for_ever() -> None:
    held = Held(MAX_AGE_S)
    held.note([said("a", 1, 0, dated_s=1e9)])
    assert repeated(held, 3) == {}
    held.note([said("a", 2, 4)])
    assert repeated(held, 7) == {"a": 2}


def test_a_clock_that_was_set_right_from_ahead_is_followed_at_once() -> None:
    held = Held(MAX_AGE_S)
    held.note([said("a", 1, 0, dated_s=3_600)])
    held.note([said("a", 2, 1)])
    assert repeated(held, 4) == {"a": 2}
