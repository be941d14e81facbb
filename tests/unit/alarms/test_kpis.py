"""The figures of ISA-18.2, held against numbers worked out by hand."""

from __future__ import annotations

import pytest

from fusion.alarms.kpis import kpis_of
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent
from fusion.schema.alarms import Transition
from tests.unit.alarms.plants import Driver

HOUR_NS = 3600 * NANOSECONDS


def story() -> list[AlarmEvent]:
    """Eleven activations in eleven minutes, of which one alarm chatters, and some answers."""
    driver = Driver()
    events = driver.run(30)
    for _ in range(4):  # "full" comes four times in 40 s
        events += driver.run(5, level=9.5)
        events += driver.run(5)
    events += driver.run(10, oil=65)  # "warm", and it stays
    acknowledged = driver.command("warm", "acknowledge")
    events.append(acknowledged)
    driver.shelve("empty")
    events += driver.run(10, oil=65, level=0.5)  # hidden: not announced
    events.append(driver.command("warm", "acknowledge"))  # refused
    return events + driver.run(10, oil=65)


def test_figures_of_a_short_story() -> None:
    kpis = kpis_of(story(), start_ns=0, end_ns=HOUR_NS, num_operators=2)
    assert (kpis.hours, kpis.num_alarms, kpis.per_operator_hour) == (1, 5, 2.5)
    assert (kpis.flood_share, kpis.most_in_ten_minutes) == (0, 5)
    assert kpis.standing == ("e/s/a/l/c/x/warm",)
    assert kpis.stale == ()
    assert kpis.chattering == {"e/s/a/l/c/x/full": 4}
    assert kpis.most_frequent == {"e/s/a/l/c/x/full": 4, "e/s/a/l/c/x/warm": 1}
    assert kpis.priority_shares == {"low": 0, "medium": 1, "high": 0}
    assert (kpis.median_ack_s, kpis.p95_ack_s) == (9.0, 9.0)
    assert (kpis.num_unacknowledged, kpis.num_refused) == (1, 1)


def test_what_waits_is_what_is_shown_as_unacknowledged() -> None:
    driver = Driver()
    events = driver.run(5) + driver.run(5, level=9.5)
    events += [driver.command("full", "acknowledge"), driver.shelve("full", 10)]
    waiting = [kpis_of(events, start_ns=0, end_ns=HOUR_NS).num_unacknowledged]
    events += driver.run(20, level=9.5)  # the shelf ends: it stands, and is to be seen anew
    waiting.append(kpis_of(events, start_ns=0, end_ns=HOUR_NS).num_unacknowledged)
    assert waiting == [0, 1]


def test_nobody_is_slow_to_answer_what_the_plant_file_ended() -> None:
    driver = Driver()
    raised = next(e for e in driver.run(5, level=9.5) if e.transition == "raised")

    def after(seconds: int, transition: Transition) -> AlarmEvent:
        update = {"id": str(seconds), "transition": transition}
        return raised.model_copy(update=update | {"t_ns": raised.t_ns + seconds * NANOSECONDS})

    events = [raised, after(60, "retired"), after(1_800, "raised"), after(1_810, "acknowledged")]
    assert kpis_of(events, start_ns=0, end_ns=HOUR_NS).median_ack_s == 10.0


def test_revisions_that_began_anew_do_not_stop_the_figures() -> None:
    driver = Driver()
    raised = next(e for e in driver.run(5, level=9.5) if e.transition == "raised")
    of_old = raised.model_copy(
        update={"id": "old", "state": raised.state.model_copy(update={"revision": 57})}
    )
    cleared = next(e for e in driver.run(5) if e.transition == "cleared")
    later = cleared.model_copy(update={"t_ns": raised.t_ns + 600 * NANOSECONDS})
    assert later.state.revision < of_old.state.revision
    assert kpis_of([of_old, later], start_ns=0, end_ns=HOUR_NS).standing == ()


def test_what_stands_for_a_day_is_stale() -> None:
    late = kpis_of(story(), start_ns=0, end_ns=26 * HOUR_NS)
    assert late.stale == ("e/s/a/l/c/x/warm",)


def test_repeats_of_an_event_count_once_and_order_says_nothing() -> None:
    events = story()
    expected = kpis_of(events, start_ns=0, end_ns=HOUR_NS)
    assert kpis_of(events[::-1] + events, start_ns=0, end_ns=HOUR_NS) == expected


def test_a_period_with_more_than_ten_is_a_flood() -> None:
    raised = next(e for e in story() if e.transition == "raised")
    burst = [raised.model_copy(update={"id": str(n), "t_ns": n * NANOSECONDS}) for n in range(11)]
    assert kpis_of(burst, start_ns=0, end_ns=HOUR_NS).flood_share == pytest.approx(1 / 6)
    assert kpis_of(burst[:10], start_ns=0, end_ns=HOUR_NS).flood_share == 0


def test_nothing_said_is_no_alarm_and_no_time_is_refused() -> None:
    assert kpis_of([], start_ns=0, end_ns=HOUR_NS).median_ack_s is None
    with pytest.raises(ValueError, match="figures need some time"):
        kpis_of([], start_ns=1, end_ns=1)


def test_what_has_cleared_before_a_persons_clock_stands_no_more() -> None:
    """A command carries the time of the clock, which is ahead of the plant: revisions decide."""
    driver = Driver()
    events = driver.run(5) + driver.run(2, level=9.5)
    events.append(driver.command("full", "acknowledge", t_ns=9 * NANOSECONDS))
    events += driver.run(1, level=5)
    assert events[-1].t_ns < events[-2].t_ns
    assert kpis_of(events, start_ns=0, end_ns=HOUR_NS).standing == ()
