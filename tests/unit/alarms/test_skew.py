"""A clock that is off for long enough raises an advisory that says how to mend it."""

from __future__ import annotations

import json

import pytest

from fusion.alarms import AlarmEngine
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import AlarmEvent, StreamHealth

PLANT_TEXT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
max_skew_s: 2
streams:
  - {name: ear, modality: audio, sample_rate_hz: 4000, clock_offset_s: 0.5}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="p.yaml")


def health(t_s: float, skew_s: float | None, stream: str = "ear") -> StreamHealth:
    return StreamHealth(
        plant=str(PLANT.address),
        stream=stream,
        t_ns=round(t_s * NANOSECONDS),
        records=1,
        rate_hz=2.0,
        gaps=0,
        restarts=0,
        late=0,
        duplicate=0,
        offset_s=skew_s,
        skew_s=skew_s,
        drift_ppm=None,
        is_skewed=skew_s is not None and abs(skew_s) > PLANT.max_skew_s,
        is_idle=False,
        newest_ns=None,
    )


def run(engine: AlarmEngine, skews_s: list[float | None], start_s: float = 0) -> list[AlarmEvent]:
    """One report every ten seconds."""
    return [
        event
        for index, skew_s in enumerate(skews_s)
        for event in engine.health([health(start_s + 10 * index, skew_s)])
    ]


@pytest.mark.parametrize(
    ("skew_s", "says", "declared"),
    [(3.25, "3.25 s behind", "-2.750"), (-4, "4 s ahead of", "4.500")],
)
def test_a_lasting_skew_is_raised_with_what_to_change(
    skew_s: float, says: str, declared: str
) -> None:
    (event,) = run(AlarmEngine(PLANT), [skew_s] * 9)
    assert (event.transition, event.state.name, event.state.finding) == (
        "raised",
        "skew-ear",
        "skew",
    )
    assert event.t_ns == 30 * NANOSECONDS
    assert event.state.kind == "advisory"
    assert event.score is None
    assert event.state.sentence == (
        f"The clock of ear is {says} the plant's other streams; at most 2 s is allowed. "
        f"Set its sender by NTP, or declare clock_offset_s: {declared} for ear in the plant file."
    )


def test_a_passing_skew_is_not_raised() -> None:
    assert run(AlarmEngine(PLANT), [3, 3, 3, 1.9] * 9) == []


def test_the_deadband_holds_and_a_mended_clock_clears_after_a_minute() -> None:
    engine = AlarmEngine(PLANT)
    assert [e.transition for e in run(engine, [3.0] * 5)] == ["raised"]
    assert run(engine, [1.5] * 20, 50) == []
    cleared = run(engine, [0.0] * 8, 250)
    assert [(e.transition, e.t_ns // NANOSECONDS) for e in cleared] == [("cleared", 310)]


def test_an_unknown_skew_neither_raises_nor_clears() -> None:
    engine = AlarmEngine(PLANT)
    assert run(engine, [None] * 20) == []
    run(engine, [3.0] * 5, 200)
    before = engine.states()
    assert run(engine, [None] * 20, 250) == []
    assert engine.states() == before


def test_health_that_is_told_again_changes_nothing_and_each_stream_stands_alone() -> None:
    engine = AlarmEngine(PLANT)
    run(engine, [3.0] * 5)
    before = engine.snapshot()
    assert run(engine, [0.0] * 5) == []
    assert engine.snapshot() == before
    assert [s.condition.value for s in engine.states() if s.finding == "skew"] == [
        "active",
        "normal",
    ]


def test_a_restart_keeps_the_advisory() -> None:
    first, second = AlarmEngine(PLANT), AlarmEngine(PLANT)
    run(first, [3.0] * 3)
    second.restore(json.loads(json.dumps(first.snapshot())), first.states())
    assert [e.t_ns for e in run(second, [3.0] * 3, 30)] == [30 * NANOSECONDS]


def test_a_plant_of_one_stream_is_held_against_its_receiver() -> None:
    alone = PLANT.model_copy(update={"streams": PLANT.streams[:1]})
    (event,) = run(AlarmEngine(alone), [5] * 4)
    assert "5 s behind its receiver; at most" in event.state.sentence
