"""What a version in shadow is counted for is what it would have said in service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from flows.wiring import open_clock
from fusion.alarms import AlarmEngine
from fusion.alignment import Observation
from fusion.plant import parse_plant
from fusion.rollout.metering import Meter
from fusion.schema import Score
from fusion.stream.alarm_topics import KeptAlarms
from fusion.stream.chain import Chain
from fusion.stream.shadow import Shadow

PLANT = parse_plant(
    """
prefix: tank
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1.0
streams:
  - name: process
    modality: telemetry
    rate_hz: 2
    tags: [{name: level, unit: m, range: [0, 10]}]
alarms:
  - name: full
    finding: limit
    tag: level
    side: high
    on_at: 9
    off_at: 8.5
    on_delay_s: 0
    off_delay_s: 0
    priority: high
    cause: The valve is shut.
    consequence: It overflows.
    action: Open the valve.
    time_to_respond_s: 60
""",
    origin="tank.yaml",
)


class Calm:
    """A score that finds nothing: only limits can raise an alarm."""

    def observe(self, window: Any, values: dict[str, float]) -> Any:
        return SimpleNamespace(tick=window.tick, values=values)

    def judge(self, evidence: Any) -> Score:
        return Score(
            plant=str(PLANT.address),
            tick=evidence.tick,
            t_end_ns=(evidence.tick + 1) * PLANT.tick_ns,
            model_version="2",
            mode=None,
            surprise=0.0,
            members={},
            shares={},
            present={"process": True},
            signals=(),
            forecasts=(),
            values=evidence.values,
        )


def test_whatever_a_shadow_does_the_version_in_service_goes_on() -> None:
    meter = Meter(open_clock())

    def push(observation: Observation) -> SimpleNamespace:
        if observation.tick == 1:
            raise KeyError("process/chart")
        return SimpleNamespace(tick=observation.tick)

    shadow = Shadow(
        PLANT,
        "2",
        cast("Any", SimpleNamespace(push=push)),
        cast("Any", Calm()),
        AlarmEngine(PLANT),
        meter,
    )
    for tick in range(4):
        senses = {"process": np.full((2, 1), 5.0, np.float32)}
        shadow.follow(Observation(tick, senses, {"process": 1.0}), is_new=True)
    assert meter.seen().num_ticks == 3
    assert meter.calls().num_failed == 1


def test_limits_on_tags_count_for_a_shadow_too() -> None:
    meter = Meter(open_clock())
    windows = SimpleNamespace(push=lambda observation: SimpleNamespace(tick=observation.tick))
    shadow = Shadow(
        PLANT, "2", cast("Any", windows), cast("Any", Calm()), AlarmEngine(PLANT), meter
    )
    for tick, level in enumerate([5.0, 5.0, 9.5, 9.5, 5.0, 9.5]):
        senses = {"process": np.full((2, 1), level, np.float32)}
        shadow.follow(Observation(tick, senses, {"process": 1.0}), is_new=True)
    assert meter.seen().num_ticks == 6
    assert meter.seen().num_alarms == 2


def test_an_alarm_that_stands_already_is_raised_by_neither() -> None:
    """A shadow that opens while a tank is full is not blamed for an alarm of an hour ago."""
    windows = SimpleNamespace(push=lambda observation: SimpleNamespace(tick=observation.tick))
    meter, before = Meter(open_clock()), AlarmEngine(PLANT)
    scorer = cast("Any", Calm())
    spoke = Shadow(PLANT, "1", cast("Any", windows), scorer, before, Meter(open_clock()))
    full = {"process": np.full((2, 1), 9.5, np.float32)}
    for tick in range(3):
        spoke.follow(Observation(tick, full, {"process": 1.0}), is_new=True)
    kept = {state.name: state for state in before.states()}
    assert kept["full"].condition.is_standing
    shadow = Shadow(PLANT, "2", cast("Any", windows), scorer, AlarmEngine(PLANT), meter)
    chain = Chain(
        PLANT,
        "1",
        cast("Any", None),
        cast("Any", None),
        cast("Any", None),
        AlarmEngine(PLANT),
        shadow=shadow,
    )
    chain.resume_alarms(before.snapshot(), KeptAlarms(states=kept))
    for tick, level in enumerate([9.5, 9.5, 5.0, 9.5], start=3):
        senses = {"process": np.full((2, 1), level, np.float32)}
        shadow.follow(Observation(tick, senses, {"process": 1.0}), is_new=True)
    assert meter.seen().num_alarms == 1
