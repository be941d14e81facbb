"""People are told at once, again while nobody answers, then others; never of what ended."""

from __future__ import annotations

import json

import pytest

from fusion.alarms.routing import Route, Router, Told
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent
from tests.unit.alarms.plants import Driver

ROUTE = Route(
    name="shift",
    channel="phone",
    priorities=("medium", "high"),
    repeat_s=60,
    escalate_after_s=150,
    escalate_to="boss",
    max_repeats=5,
)


def raised(driver: Driver) -> AlarmEvent:
    driver.run()
    (event,) = driver.run(level=9.5)
    return event


def at(router: Router, second: int) -> list[tuple[str, int]]:
    return [
        (t.channel, int(t.notice.id.rpartition(":")[2])) for t in router.due(second * NANOSECONDS)
    ]


def test_told_at_once_again_and_then_to_others() -> None:
    router = Router([ROUTE])
    (first,) = router.follow(raised(Driver()), 0)
    assert (first.channel, first.notice.subject) == ("phone", "medium alarm: full at x")
    assert "level is 9.5 m" in first.notice.text
    heard = {second: told for second in range(1, 900) if (told := at(router, second))}
    assert heard == {
        60: [("phone", 1)],
        120: [("phone", 2)],
        150: [("phone", 3), ("boss", 3)],
        210: [("phone", 4), ("boss", 4)],
        270: [("phone", 5), ("boss", 5)],
    }


@pytest.mark.parametrize("how", ["acknowledge", "shelve", "clear"])
def test_an_answer_or_an_end_stops_it(how: str) -> None:
    driver, router = Driver(), Router([ROUTE])
    router.follow(raised(driver), 0)
    if how == "clear":
        events = driver.run(level=5)
    else:
        events = [driver.command("full", "acknowledge") if how[0] == "a" else driver.shelve("full")]
    for event in events:
        assert router.follow(event, NANOSECONDS) == []
    assert at(router, 10_000) == []


def test_who_escalates_without_repeats_tells_the_other_once() -> None:
    router = Router([ROUTE.model_copy(update={"repeat_s": None})])
    router.follow(raised(Driver()), 0)
    heard = {second: told for second in range(1, 900) if (told := at(router, second))}
    assert heard == {150: [("boss", 1)]}


@pytest.mark.parametrize(
    "other", [{"priorities": ("high",)}, {"kinds": ("system",)}, {"under": "elsewhere/"}]
)
def test_only_what_a_route_is_for(other: dict[str, object]) -> None:
    router = Router([ROUTE.model_copy(update=other)])
    assert router.follow(raised(Driver()), 0) == []
    assert at(router, 10_000) == []


def test_an_event_that_is_read_again_tells_nobody_twice() -> None:
    event, router = raised(Driver()), Router([ROUTE])
    assert len(router.follow(event, 0)) == 1
    assert router.follow(event, 5) == []


def test_hidden_alarms_are_told_when_they_show() -> None:
    driver, router = Driver(), Router([ROUTE])
    driver.run()
    driver.shelve("full", 10)
    told: list[Told] = []
    for event in driver.run(20, level=9.5):
        told += router.follow(event, 0)
    assert [each.notice.name for each in told] == ["full"]


def test_a_restart_goes_on() -> None:
    router, again = Router([ROUTE]), Router([ROUTE])
    router.follow(raised(Driver()), 0)
    at(router, 60)
    again.restore(json.loads(json.dumps(router.snapshot())))
    assert at(again, 61) == []
    assert at(again, 120) == [("phone", 2)]


def test_what_comes_back_is_news_to_those_who_drop_repeats() -> None:
    driver, router = Driver(), Router([ROUTE])
    ids = [t.notice.id for t in router.follow(raised(driver), 0)]
    assert router.follow(driver.shelve("full", 5), 0) == []
    for event in driver.run(10, level=9.5):
        ids += [t.notice.id for t in router.follow(event, 0)]
    assert len(ids) == len(set(ids)) == 2


def test_what_was_answered_is_not_due() -> None:
    driver, router = Driver(), Router([ROUTE])
    (told,) = router.follow(raised(driver), 0)
    assert router.is_due(told)
    router.follow(driver.command("full", "acknowledge"), 0)
    assert not router.is_due(told)


@pytest.mark.parametrize(
    ("under", "is_told"),
    [("", True), ("e/s", True), ("/e/s/", True), ("e/s/a/l/c/x", True), ("s", False)],
)
def test_an_area_is_whole_levels(under: str, is_told: bool) -> None:
    route = ROUTE.model_copy(update={"under": under})
    assert bool(Router([route]).follow(raised(Driver()), 0)) is is_told


def test_a_neighbour_whose_name_begins_alike_is_another() -> None:
    event = raised(Driver())
    state = event.state.model_copy(update={"plant": "e/south/a/l/c/x"})
    route = ROUTE.model_copy(update={"under": "e/s"})
    assert Router([route]).follow(event.model_copy(update={"state": state}), 0) == []
