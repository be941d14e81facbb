"""Alarms go round one circle: raised, cleared, raised; delays, deadband and people's words hold."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alarms import AlarmEngine
from fusion.alarms.state_machine import Delays, Reading, next_condition
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import (
    AlarmCommand,
    AlarmEvent,
    AlarmState,
    Condition,
    Score,
    ShownState,
    TagForecast,
)

PLANT_TEXT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 2
    tags: [{name: level, unit: m, range: [0, 1], limits: {high: 0.9}}]
alarms:
  - {name: odd, finding: surprise, on_delay_s: 1, off_delay_s: 2,
     cause: c, consequence: c, action: a, time_to_respond_s: 60}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="p.yaml")
ON_NS, OFF_NS = NANOSECONDS, 2 * NANOSECONDS
NORMAL, PENDING_ON = Condition.NORMAL, Condition.PENDING_ON
ACTIVE, PENDING_OFF = Condition.ACTIVE, Condition.PENDING_OFF
HIGH, BETWEEN, LOW = 1.5, 0.8, 0.2


def score(
    tick: int, surprise: float, *, has_data: bool = True, p_cross: float | None = None
) -> Score:
    forecasts = ()
    if p_cross is not None:
        forecasts = (
            TagForecast(
                tag="level",
                unit="m",
                now=0.5,
                horizons_s=(1.0,),
                low=(0.4,),
                median=(0.5,),
                high=(0.6,),
                limit=0.9,
                limit_side="high",
                p_cross=p_cross,
                t_cross_s=(None, 8.0, None),
            ),
        )
    return Score(
        plant=str(PLANT.address),
        tick=tick,
        t_end_ns=(tick + 1) * NANOSECONDS // 2,
        model_version="1",
        mode=None,
        surprise=surprise,
        members={},
        shares={"process": 1.0},
        present={"process": has_data},
        signals=(),
        forecasts=forecasts,
    )


def run(engine: AlarmEngine, levels: list[float], first_tick: int = 0) -> list[AlarmEvent]:
    return [
        event
        for tick, level in enumerate(levels, first_tick)
        for event in engine.update(score(tick, level))
    ]


def odd(engine: AlarmEngine) -> AlarmState:
    return next(state for state in engine.states() if state.name == "odd")


def acknowledge(revision: int, command_id: str = "c1", name: str = "odd") -> AlarmCommand:
    return AlarmCommand(
        id=command_id,
        plant=str(PLANT.address),
        name=name,
        action="acknowledge",
        expected_revision=revision,
        who="ann",
        t_ns=77,
    )


@pytest.mark.parametrize(
    ("condition", "level", "lasted_s", "expected"),
    [
        (NORMAL, HIGH, 0, PENDING_ON),
        (NORMAL, BETWEEN, 99, NORMAL),
        (NORMAL, LOW, 99, NORMAL),
        (PENDING_ON, HIGH, 0.5, PENDING_ON),
        (PENDING_ON, HIGH, 1, ACTIVE),
        (PENDING_ON, BETWEEN, 1, NORMAL),
        (PENDING_ON, LOW, 1, NORMAL),
        (ACTIVE, HIGH, 99, ACTIVE),
        (ACTIVE, BETWEEN, 99, ACTIVE),
        (ACTIVE, LOW, 0, PENDING_OFF),
        (PENDING_OFF, HIGH, 99, ACTIVE),
        (PENDING_OFF, LOW, 1.5, PENDING_OFF),
        (PENDING_OFF, LOW, 2, NORMAL),
        (PENDING_OFF, BETWEEN, 1.5, PENDING_OFF),
        (PENDING_OFF, BETWEEN, 2, NORMAL),
    ],
)
def test_every_arrow_of_the_picture(
    condition: Condition, level: float, lasted_s: float, expected: Condition
) -> None:
    reading = Reading(is_on=level >= 1, is_off=level < 0.7, t_ns=round(lasted_s * NANOSECONDS))
    assert next_condition(condition, 0, reading, Delays(ON_NS, OFF_NS)) is expected


@pytest.mark.parametrize(
    ("condition", "level", "expected"), [(NORMAL, HIGH, ACTIVE), (ACTIVE, LOW, NORMAL)]
)
def test_without_delays_there_is_no_pending(
    condition: Condition, level: float, expected: Condition
) -> None:
    reading = Reading(is_on=level >= 1, is_off=level < 0.7, t_ns=5)
    assert next_condition(condition, 5, reading, Delays(0, 0)) is expected


class Step(NamedTuple):
    """One tick of a story; ``surprise`` None is a tick without data."""

    surprise: float | None
    ack: int | None
    """Acknowledge this many revisions behind what is shown."""


stories = st.lists(
    st.builds(
        Step,
        st.sampled_from([HIGH] * 4 + [LOW] * 4 + [BETWEEN, 1.0, 0.7, None]),
        st.sampled_from([None] * 6 + [0, 1]),
    ),
    min_size=1,
    max_size=60,
)


def play(engine: AlarmEngine, story: list[Step], first_tick: int = 0) -> list[AlarmEvent]:
    events: list[AlarmEvent] = []
    for tick, step in enumerate(story, first_tick):
        has_data = step.surprise is not None
        events += engine.update(score(tick, step.surprise or 0.0, has_data=has_data))
        if step.ack is not None:
            events += engine.command(acknowledge(odd(engine).revision - step.ack, f"c{tick}"))
    return [e for e in events if e.state.name == "odd" and e.transition != "refused"]


@settings(deadline=None, max_examples=200)
@given(stories)
def test_raised_and_cleared_alternate(story: list[Step]) -> None:
    events = play(AlarmEngine(PLANT), story)
    process = [event.transition for event in events if event.transition != "acknowledged"]
    assert process == [("raised", "cleared")[i % 2] for i in range(len(process))]
    assert [event.state.revision for event in events] == [*range(1, len(events) + 1)]
    assert len({event.id for event in events}) == len(events)


@settings(deadline=None, max_examples=200)
@given(stories)
def test_nothing_is_raised_before_its_delay_nor_cleared_before_its_own(story: list[Step]) -> None:
    told = [
        (score(tick, 0).t_end_ns, step.surprise)
        for tick, step in enumerate(story)
        if step.surprise is not None
    ]
    for event in play(AlarmEngine(PLANT), story):
        if event.transition == "acknowledged":
            continue
        delay_ns = ON_NS if event.transition == "raised" else OFF_NS
        began_ns = max(t for t, _ in told if t <= event.t_ns - delay_ns)
        window = [level for t, level in told if began_ns <= t <= event.t_ns]
        if event.transition == "raised":
            assert all(level >= 1 for level in window)
        else:
            assert all(level < 1 for level in window)


@settings(deadline=None, max_examples=200)
@given(stories, st.data())
def test_a_restart_anywhere_changes_nothing(story: list[Step], data: st.DataObject) -> None:
    uninterrupted = AlarmEngine(PLANT)
    expected = play(uninterrupted, story)
    at = data.draw(st.integers(0, len(story)), label="restart after")
    first = AlarmEngine(PLANT)
    events = play(first, story[:at])
    second = AlarmEngine(PLANT)
    second.restore(json.loads(json.dumps(first.snapshot())), first.states())
    events += play(second, story[at:], first_tick=at)
    assert events == expected
    assert second.states() == uninterrupted.states()


def test_a_score_that_is_read_again_changes_nothing() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 5)
    before = engine.snapshot()
    assert run(engine, [LOW] * 5) == []
    assert engine.snapshot() == before


def test_a_finding_that_lasts_its_delay_is_raised_once_with_its_evidence() -> None:
    engine = AlarmEngine(PLANT)
    (event,) = run(engine, [HIGH] * 9)
    assert (event.transition, event.t_ns) == ("raised", score(2, 0).t_end_ns)
    assert event.score == score(2, HIGH)
    assert event.state.onset_ns == score(0, 0).t_end_ns
    assert event.state.sentence == "Telemetry (process) deviates most (100% of the surprise)."
    assert event.state.shown is ShownState.UNACKNOWLEDGED


def test_a_finding_that_passes_before_its_delay_is_not_raised() -> None:
    assert run(AlarmEngine(PLANT), [HIGH, HIGH, BETWEEN] * 5) == []


def test_the_deadband_neither_raises_nor_clears() -> None:
    engine = AlarmEngine(PLANT)
    assert run(engine, [BETWEEN] * 20) == []
    assert len(run(engine, [HIGH] * 3, 20)) == 1
    assert run(engine, [BETWEEN, 0.7, 0.999] * 20, 23) == []
    assert odd(engine).condition is ACTIVE


def test_a_finding_that_comes_back_before_the_off_delay_is_the_same_alarm() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3)
    revision = odd(engine).revision
    assert run(engine, [LOW, LOW, LOW, HIGH] * 5, 3) == []
    assert odd(engine).revision == revision


def test_a_cleared_alarm_that_nobody_saw_stays_to_be_seen() -> None:
    engine = AlarmEngine(PLANT)
    events = run(engine, [HIGH] * 3 + [LOW] * 6)
    assert [event.transition for event in events] == ["raised", "cleared"]
    assert odd(engine).shown is ShownState.RETURNED_UNACKNOWLEDGED
    engine.command(acknowledge(odd(engine).revision))
    assert odd(engine).shown is ShownState.NORMAL


def test_missing_data_never_clears() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3 + [LOW])
    before = odd(engine)
    events = [e for t in range(4, 400) for e in engine.update(score(t, 0.0, has_data=False))]
    assert odd(engine) == before
    assert before.condition is PENDING_OFF
    (bad_input,) = events
    assert (bad_input.state.name, bad_input.state.kind) == ("input-process", "system")
    assert bad_input.state.sentence == (
        "No usable data from process: 2 alarms that need it stay as they were."
    )


def test_time_without_data_is_no_part_of_a_delay() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3 + [LOW])
    for tick in range(4, 10):
        engine.update(score(tick, 0.0, has_data=False))
    assert [e.t_ns for e in run(engine, [LOW] * 9, 10) if e.state.name == "odd"] == [
        score(13, 0).t_end_ns
    ]


def test_ticks_that_nobody_saw_are_no_part_of_a_delay() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH])
    assert run(engine, [HIGH], 1000) == []
    assert [e.transition for e in run(engine, [HIGH], 1001)] == ["raised"]


def test_acknowledging_is_said_once_however_often_it_is_sent() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3)
    command = acknowledge(odd(engine).revision)
    (event,) = engine.command(command)
    assert (event.transition, event.who, event.t_ns) == ("acknowledged", "ann", 77)
    assert engine.command(command) == []
    (refused,) = engine.command(acknowledge(odd(engine).revision, "c2"))
    assert (refused.transition, refused.command) == ("refused", "c2")
    assert refused.note == "the alarm must be unacknowledged, and it is acknowledged already"
    assert odd(engine).shown is ShownState.ACKNOWLEDGED


def test_an_acknowledgement_of_what_was_seen_before_is_refused() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3)
    seen = odd(engine).revision
    run(engine, [LOW] * 6 + [HIGH] * 3, 3)
    (refused,) = engine.command(acknowledge(seen))
    assert refused.note == (
        "the alarm must be as you saw it, but it is at revision 3 and you saw 1; look again"
    )
    assert odd(engine).shown is ShownState.UNACKNOWLEDGED


def test_there_is_no_answer_for_an_alarm_that_is_none() -> None:
    engine = AlarmEngine(PLANT)
    assert not engine.has("none")
    with pytest.raises(KeyError):
        engine.command(acknowledge(0, name="none"))


def test_a_raised_alarm_is_to_be_acknowledged_anew() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [HIGH] * 3)
    engine.command(acknowledge(odd(engine).revision))
    run(engine, [LOW] * 6, 3)
    assert odd(engine).shown is ShownState.NORMAL
    run(engine, [HIGH] * 3, 9)
    assert odd(engine).shown is ShownState.UNACKNOWLEDGED


def test_a_finding_without_a_definition_is_an_advisory() -> None:
    engine = AlarmEngine(PLANT)
    kinds = {state.name: (state.kind, state.finding) for state in engine.states()}
    assert kinds == {
        "odd": ("alarm", "surprise"),
        "forecast-level": ("advisory", "forecast"),
        "skew-process": ("advisory", "skew"),
        "input-process": ("system", "input"),
        "flood": ("system", "flood"),
    }
    events = [e for tick in range(9) for e in engine.update(score(tick, LOW, p_cross=0.5))]
    assert [(e.state.name, e.transition) for e in events] == [("forecast-level", "raised")]
    assert "will be above its limit of 0.9 m in about 8 s" in events[0].state.sentence


def test_a_tick_without_a_forecast_leaves_its_alarm_as_it_is() -> None:
    engine = AlarmEngine(PLANT)
    for tick in range(9):
        engine.update(score(tick, LOW, p_cross=1.0))
    before = engine.states()[1]
    assert run(engine, [LOW] * 90, 9) == []
    assert engine.states()[1] == before
    assert before.condition is ACTIVE


def test_an_alarm_that_the_plant_file_no_longer_has_ends_and_that_is_journalled() -> None:
    old = AlarmEngine(PLANT)
    run(old, [HIGH] * 3)
    renamed = AlarmEngine(parse_plant(PLANT_TEXT.replace("odd", "strange"), origin="p.yaml"))
    (retired,) = renamed.restore(old.snapshot(), old.states())
    assert (retired.state.name, retired.transition) == ("odd", "retired")
    assert retired.state.shown is ShownState.NORMAL
    assert retired.state in renamed.take_changed()
    assert "odd" not in {state.name for state in renamed.states()}
    assert renamed.states()[0].condition is NORMAL


def test_what_earlier_releases_kept_is_gone_on_from() -> None:
    """Every state was in the checkpoint, with the newest tick in it, and less was in a state."""
    state = {
        "plant": str(PLANT.address),
        "name": "odd",
        "kind": "alarm",
        "finding": "surprise",
        "tag": None,
        "priority": "medium",
        "condition": "active",
        "is_acknowledged": False,
        "revision": 7,
        "tick": 41,
        "since_ns": 20 * NANOSECONDS,
        "onset_ns": 19 * NANOSECONDS,
        "sentence": "Telemetry (process) deviates most.",
        "score": 1.5,
        "shares": {"process": 1.0},
    }
    engine = AlarmEngine(PLANT)
    assert engine.restore({"states": {"odd": state}, "commands": ["c0"]}) == []
    assert odd(engine).shown is ShownState.UNACKNOWLEDGED
    assert odd(engine).revision == 7
    assert run(engine, [LOW] * 42) == [], "a tick that was judged before is not judged again"
    assert [e.transition for e in run(engine, [LOW] * 6, 42)] == ["cleared"]
    assert engine.command(acknowledge(8, "c0")) == [], "it was answered before"


def test_an_alarm_must_not_be_called_as_an_advisory_is() -> None:
    clash = parse_plant(PLANT_TEXT.replace("odd", "forecast-level"), origin="p.yaml")
    with pytest.raises(InputError, match="alarms must not be called as advisories are"):
        AlarmEngine(clash)
