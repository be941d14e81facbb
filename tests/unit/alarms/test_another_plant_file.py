"""Another plant file: what it changes of an alarm is journalled, and nothing stays unseen by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusion.alarms import AlarmEngine
from fusion.alarms.kpis import kpis_of
from fusion.plant import NANOSECONDS, parse_plant
from fusion.schema import AlarmEvent, AlarmState, ShownState
from tests.unit.alarms.plants import TEXT, Driver

MODES = "suppressed_in: [stopped], "


def under(driver: Driver, old: str, new: str) -> tuple[AlarmEngine, list[AlarmEvent]]:
    """Return the engine that goes on with the plant file in which ``new`` stands for ``old``."""
    assert old in TEXT
    again = AlarmEngine(parse_plant(TEXT.replace(old, new), origin="p.yaml"))
    kept = json.loads(json.dumps(driver.engine.snapshot()))
    return again, again.restore(kept, driver.engine.states())


def state(engine: AlarmEngine, name: str) -> AlarmState:
    return next(each for each in engine.states() if each.name == name)


@pytest.mark.parametrize(
    ("name", "values", "old", "new", "transition"),
    [
        ("warm", {"oil": 85}, ", masked_by: hot", "", "unmasked"),
        ("empty", {"level": 0.5, "mode": "stopped"}, MODES, "", "unsuppressed"),
    ],
)
def test_what_no_longer_hides_leaves_a_standing_alarm_for_somebody_to_see(
    name: str, values: dict[str, Any], old: str, new: str, transition: str
) -> None:
    driver = Driver()
    driver.run()
    driver.run(3, **values)
    before = driver.state(name)
    assert before.is_hidden
    assert before.condition.is_standing
    engine, events = under(driver, old, new)
    assert state(engine, name).shown is ShownState.UNACKNOWLEDGED, "nobody has seen it"
    (event,) = events
    assert event.transition == transition
    assert event.state == state(engine, name)
    assert event.state.revision == before.revision + 1
    assert event.state in engine.take_changed()


def test_a_latch_that_the_plant_file_takes_away_is_a_reset_in_the_journal() -> None:
    driver = Driver()
    driver.run()
    driver.run(oil=85)
    driver.command("hot", "acknowledge")
    driver.run(oil=20)
    assert driver.state("hot").shown is ShownState.LATCHED
    engine, events = under(driver, "latching: true, ", "")
    assert [(e.transition, e.who, e.note) for e in events] == [
        ("reset", "plant file", "the plant file no longer latches it")
    ]
    assert state(engine, "hot").shown is ShownState.NORMAL


def test_an_alarm_that_looks_at_something_else_ends_in_the_journal_too() -> None:
    driver = Driver()
    driver.run()
    events = driver.run(3, level=9.5)
    events.append(driver.command("full", "acknowledge", t_ns=4 * NANOSECONDS + 1))
    engine, changed = under(
        driver,
        "name: full, finding: limit, tag: level",
        "name: full, finding: limit, tag: oil, on_at: 99",
    )
    (ended,) = changed
    assert (ended.transition, state(engine, "full").shown) == ("retired", ShownState.NORMAL)
    assert ended.t_ns == engine.now_ns, "now, not when it was raised"
    assert kpis_of(events + changed, start_ns=0, end_ns=NANOSECONDS * 60).standing == ()


def test_the_same_plant_file_says_nothing() -> None:
    driver = Driver()
    driver.run()
    driver.run(3, oil=85, level=9.5)
    assert under(driver, "prefix: p", "prefix: p")[1] == []


def test_an_alarm_that_looks_at_something_else_is_not_hidden_by_what_no_longer_hides_it() -> None:
    driver = Driver()
    driver.run()
    driver.run(3, oil=85)
    assert driver.state("warm").is_hidden
    engine, _ = under(
        driver,
        "tag: oil, side: high, on_at: 60, off_at: 50, on_delay_s: 0,\n"
        "     off_delay_s: 0, masked_by: hot",
        "tag: level, side: high, on_at: 8, off_at: 7, on_delay_s: 0,\n     off_delay_s: 0",
    )
    assert not state(engine, "warm").is_hidden


def test_a_latched_alarm_that_the_plant_file_no_longer_has_ends() -> None:
    driver = Driver()
    driver.run()
    driver.run(oil=85)
    driver.command("hot", "acknowledge")
    driver.run(oil=20)
    assert driver.state("hot").shown is ShownState.LATCHED
    hot = TEXT[TEXT.index("  - {name: hot") : TEXT.index("  - {name: warm")]
    again = TEXT.replace(hot, "").replace(", masked_by: hot", "")
    engine = AlarmEngine(parse_plant(again, origin="p.yaml"))
    events = engine.restore(driver.engine.snapshot(), driver.engine.states())
    ended = [each for each in events if each.state.name == "hot"]
    assert [(each.transition, each.state.is_latched) for each in ended] == [("retired", False)]
