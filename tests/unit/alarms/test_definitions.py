"""What a definition can say, one by one; what it must not say is explained."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusion.alarms import AlarmEngine
from fusion.alarms.readings import tag_values
from fusion.alignment import Observation
from fusion.errors import PlantError
from fusion.plant import NANOSECONDS, parse_plant
from fusion.schema import ShownState
from tests.unit.alarms.plants import PLANT, TEXT, Driver, said


def test_a_limit_on_a_plain_tag_is_an_alarm_with_its_own_deadband() -> None:
    driver = Driver()
    driver.run(level=9.0 - 1e-9)
    (raised,) = driver.run(level=9.0)
    assert said([raised]) == [("full", "raised")]
    assert raised.state.sentence == "level is 9 m, above its limit of 9 m."
    assert driver.run(level=8.9) == [], "2 % of the range of 10 m lie between on and off"
    assert said(driver.run(level=8.7)) == [("full", "cleared")]


def test_a_low_limit_is_crossed_downwards() -> None:
    driver = Driver()
    (raised,) = driver.run(level=0.9)
    assert raised.state.sentence == "level is 0.9 m, below its limit of 1 m."
    assert driver.run(level=1.9) == []
    assert said(driver.run(level=2.1)) == [("empty", "cleared")]


def test_m_of_n_counts_the_last_n_ticks_that_were_seen() -> None:
    driver = Driver()
    for speed in (60, 30, 60, 30, 30, 60):
        assert driver.run(speed=speed) == []
    assert driver.run(has_data=False) == [], "a tick without data is none of the n"
    assert said(driver.run(speed=60)) == [("flutter", "raised")]


def test_a_mode_suppresses_what_means_nothing_in_it() -> None:
    driver = Driver()
    (suppressed,) = driver.run(mode="stopped")
    assert (suppressed.transition, suppressed.who) == ("suppressed", "plant file")
    assert suppressed.note == "operating mode stopped"
    (raised,) = driver.run(mode="stopped", level=0.5)
    assert raised.state.shown is ShownState.SUPPRESSED
    (back,) = driver.run(level=0.5)
    assert (back.transition, back.state.shown) == ("unsuppressed", ShownState.UNACKNOWLEDGED)


def test_a_parent_masks_what_it_explains_in_the_same_tick() -> None:
    driver = Driver()
    events = driver.run(oil=85)
    assert said(events) == [("hot", "raised"), ("warm", "masked"), ("warm", "raised")]
    assert driver.state("warm").shown is ShownState.MASKED
    assert said(driver.run(oil=65)) == [("hot", "cleared"), ("warm", "unmasked")]
    assert driver.state("warm").shown is ShownState.UNACKNOWLEDGED


def test_a_parent_that_nobody_sees_explains_nothing() -> None:
    driver = Driver()
    driver.run()
    driver.shelve("hot")
    events = driver.run(oil=85)
    assert said(events) == [("hot", "raised"), ("warm", "raised")]
    assert driver.state("warm").shown is ShownState.UNACKNOWLEDGED


def test_shelving_a_parent_shows_what_it_masked() -> None:
    driver = Driver()
    driver.run(oil=85)
    driver.shelve("hot")
    assert driver.state("warm").shown is ShownState.UNACKNOWLEDGED


def test_a_shelf_ends_by_itself_and_what_stands_is_new() -> None:
    driver = Driver()
    driver.run(level=9.5)
    driver.command("full", "acknowledge")
    driver.shelve("full", 10)
    assert said(driver.run(9, level=9.5)) == []
    (ended,) = driver.run(level=9.5)
    assert (ended.transition, ended.note) == ("unshelved", "its time is over")
    assert ended.state.shown is ShownState.UNACKNOWLEDGED


def test_a_shelf_ends_in_silence_too() -> None:
    driver = Driver()
    driver.run(level=9.5)
    driver.shelve("full", 10)
    assert driver.engine.pass_time(driver.tick * NANOSECONDS + 9 * NANOSECONDS) == []
    ended = driver.engine.pass_time(driver.tick * NANOSECONDS + 10 * NANOSECONDS)
    assert said(ended) == [("full", "unshelved")]


def test_a_one_shot_shelf_ends_when_the_alarm_clears() -> None:
    driver = Driver()
    driver.run(level=9.5)
    driver.shelve("full", is_one_shot=True)
    assert said(driver.run(level=5)) == [("full", "cleared"), ("full", "unshelved")]
    assert said(driver.run(level=9.5)) == [("full", "raised")]
    assert driver.state("full").shown is ShownState.UNACKNOWLEDGED


def test_an_alarm_that_still_stands_comes_back_after_its_time() -> None:
    driver = Driver()
    driver.run(4, 1.5)
    driver.command("odd", "acknowledge")
    assert said(driver.run(19, 1.5)) == []
    assert said(driver.run(1, 1.5)) == [("odd", "re-alarmed")]
    assert driver.state("odd").shown is ShownState.UNACKNOWLEDGED


@pytest.mark.parametrize(
    ("action", "told", "why"),
    [
        ("shelve", {"duration_s": 60}, "must say why"),
        ("shelve", {"note": "works"}, "at most 86400 s, got none"),
        ("shelve", {"note": "works", "duration_s": 1e6}, "at most 86400 s, got 1e"),
        ("unshelve", {}, "must be shelved for that"),
        ("return-to-service", {}, "must be out-of-service"),
        ("reset", {}, "must be latched"),
        ("comment", {"note": " "}, "must say something"),
        ("judge", {"episode": "none", "judgement": "useful"}, "must be remembered"),
        ("acknowledge", {"expected_revision": 9}, "it is at revision 0 and you saw 9"),
    ],
)
def test_what_cannot_be_done_is_refused_with_why(action: str, told: dict, why: str) -> None:
    driver = Driver()
    driver.run()
    before = driver.state("full")
    answer = driver.command("full", action, **told)  # type: ignore[arg-type]
    assert answer.transition == "refused"
    assert why in answer.note
    assert driver.state("full") == before


def test_a_standing_alarm_can_be_judged_by_its_episode() -> None:
    driver = Driver()
    (raised,) = driver.run(level=9.5)
    told = {"episode": raised.id, "judgement": "nuisance", "note": "someone washed it"}
    judged = driver.command("full", "judge", **told)
    assert (judged.transition, judged.judgement, judged.note) == (
        "judged",
        "nuisance",
        "someone washed it",
    )


def test_a_flood_is_one_more_alarm_with_the_first_of_each_asset() -> None:
    driver = Driver()
    events = driver.run(1, oil=85)
    for _ in range(9):
        events += driver.run(1, level=9.5)
        events += driver.run(1)
    events += driver.run(1, level=0.5)
    (flood,) = [e for e in events if e.state.finding == "flood"]
    assert (flood.transition, flood.state.kind) == ("raised", "system")
    assert flood.state.sentence == (
        "11 alarms in 10 minutes (x: 9, first full; motor: 1, first hot; tank: 1, first empty)."
    )
    assert {s.name for s in driver.engine.states() if s.is_first_out} == {"full", "hot", "empty"}
    assert ("flood", "cleared") in said(driver.run(620))
    assert not any(state.is_first_out for state in driver.engine.states())


def test_thresholds_are_a_definitions_own() -> None:
    text = TEXT.replace("finding: surprise,", "finding: surprise, on_at: 2, off_at: 1.2,")
    driver = Driver()
    driver.engine = AlarmEngine(parse_plant(text, origin="p.yaml"))
    assert driver.run(5, 1.9) == []
    assert said(driver.run(3, 2.0)) == [("odd", "raised")]
    assert driver.run(9, 1.3) == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("masked_by: hot", "masked_by: nobody", "masked_by must name an alarm of this plant"),
        ("masked_by: hot", "masked_by: warm", "an alarm must not mask itself, got warm <- warm"),
        ("suppressed_in: [stopped]", "suppressed_in: [asleep]", "must name operating modes"),
        ("on_at: 80, off_at: 70", "on_at: 80, off_at: 90", "the calm side of on_at"),
        ("on_at: 80, off_at: 70", "off_at: 70", "needs its on-threshold"),
        ("m_of_n: [3, 5]", "m_of_n: [6, 5]", "1 <= m <= n <= 64"),
        ("side: low, off_at: 2", "side: low, off_at: 0.5", "the calm side of on_at"),
        ("tag: level, side: high", "tag: level", "says on which side"),
        ("finding: surprise,", "finding: surprise, side: low,", "says on which side"),
    ],
)
def test_a_definition_that_cannot_be_is_explained(old: str, new: str, why: str) -> None:
    assert TEXT.replace(old, new) != TEXT
    with pytest.raises(PlantError, match=why):
        parse_plant(TEXT.replace(old, new), origin="p.yaml")


def test_what_is_not_asked_for_leaves_the_fingerprint_as_it_was() -> None:
    (plain,) = parse_plant(
        TEXT[: TEXT.index("  - {name: full")].replace(", re_alarm_s: 20", ""), origin="p.yaml"
    ).alarms
    assert set(json.loads(plain.model_dump_json())) == {
        "name",
        "finding",
        "tag",
        "priority",
        "cause",
        "consequence",
        "action",
        "time_to_respond_s",
        "on_delay_s",
        "off_delay_s",
    }


def test_a_limit_sees_the_mean_of_the_tick_and_nothing_of_what_is_missing() -> None:
    values_SC = np.array([[9.0, np.nan, 1.0], [11.0, np.nan, np.nan]], np.float32)
    tick = Observation(0, {"process": values_SC}, {"process": 1.0})
    assert tag_values(tick, PLANT) == {"level": 10.0, "speed": 1.0}
    assert tag_values(Observation(0, {}, {}), PLANT) == {}


def test_a_missing_tag_freezes_its_alarms_and_says_so() -> None:
    driver = Driver()
    driver.run(level=9.5)
    events = driver.run(20, level=None)
    assert [(e.state.name, e.state.sentence) for e in events] == [
        (
            "input-process",
            "No usable data from level of process: 7 alarms that need it stay as they were.",
        )
    ]
    assert driver.state("full").shown is ShownState.UNACKNOWLEDGED
