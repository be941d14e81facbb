"""Models on an examination with incidents: what each notices, and what nobody has judged."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fusion.alignment import Observation
from fusion.evaluation import challenge
from fusion.evaluation.challenge import EARLY_S, Examined, examine_baseline, examine_model
from fusion.plant import NANOSECONDS
from fusion.retraining.gate import Decision, Floor, GateRecipe, decide
from fusion.retraining.incidents import Examination, Incident, as_judged
from fusion.schema.alarms import Judgement
from tests.unit.training.tiny import PLANT, recording

TICKS = range(10_000, 14_000)
CALM, ABNORMAL = 0.2, 3.0
RECIPE = GateRecipe(floors=(Floor(figure="alarm_share", is_higher_better=False, limit=0.1),))
"""The rules of a plant, less those of figures that need a network."""


def episode(first: int, stop: int, judgement: Judgement | None) -> Incident:
    onset_ns, end_ns = (round(tick * PLANT.tick_s * NANOSECONDS) for tick in (first, stop))
    return Incident(
        episode=f"e{first}", alarm="a", onset_ns=onset_ns, end_ns=end_ns, judgement=judgement
    )


def examination(**told: Any) -> Examination:
    return Examination(
        plant=str(PLANT.address),
        plant_fingerprint=PLANT.fingerprint(),
        data_version="v",
        first_tick=TICKS.start,
        stop_tick=TICKS.stop,
        **told,
    )


def examined(
    monkeypatch: pytest.MonkeyPatch, asked: Examination, alarms: Sequence[tuple[int, int]]
) -> Examined:
    """Return what a model does that is abnormal from tick to tick of ``alarms``, and else calm."""
    observations = [Observation(tick, {}, {}) for tick in TICKS]
    surprise_N = np.full(len(TICKS), CALM)
    for first, stop in alarms:
        surprise_N[first - TICKS.start : stop - TICKS.start] = ABNORMAL
    nothing = challenge._Forecasts((1,))
    monkeypatch.setattr(challenge, "_run", lambda *_: (surprise_N, nothing))
    told = SimpleNamespace(plant=PLANT, manifest=SimpleNamespace(gauges=()))
    return examine_model(cast("Any", told), observations, asked)


def judged_beside(challenger: Examined, champion: Examined) -> Decision:
    return decide(challenger.figures, champion.figures, {}, RECIPE)


def test_who_misses_an_incident_that_the_champion_saw_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, only_one = (10_400, 10_500), (12_000, 12_100)
    asked = examination(incidents=tuple(episode(*each, "useful") for each in (both, only_one)))
    false = (13_000, 13_100)
    champion = examined(monkeypatch, asked, [both, only_one, false])
    blind = examined(monkeypatch, asked, [(10_440, 10_500)])
    assert champion.figures["num_incidents"] == 2
    assert (champion.figures["recall"], blind.figures["recall"]) == (1.0, 0.5)
    assert (champion.figures["false_alarms"], blind.figures["false_alarms"]) == (1, 0)
    # 40 ticks of half a second later than the champion, in the one that both saw.
    late_s = blind.figures["median_delay_s"] - champion.figures["median_delay_s"]
    assert late_s == pytest.approx(20)
    assert blind.delay_s["e12000"] is None
    decision = judged_beside(blind, champion)
    assert not decision.is_passed
    assert "recall 0.5 beside 1, worse" in decision.why
    assert "median delay s" in decision.why


def test_an_alarm_somewhat_before_the_incident_is_early_and_one_long_before_is_false(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = examination(incidents=(episode(12_000, 12_100, "useful"),))
    early = 12_000 - round((EARLY_S - 10) / PLANT.tick_s)
    found = examined(monkeypatch, asked, [(early, 12_100)])
    assert (found.figures["recall"], found.figures["false_alarms"]) == (1.0, 0)
    assert -EARLY_S < found.figures["median_delay_s"] < 0
    long_before = 12_000 - round((EARLY_S + 30) / PLANT.tick_s)
    found = examined(monkeypatch, asked, [(long_before, 12_100)])
    assert (found.figures["recall"], found.figures["false_alarms"]) == (0.0, 1)


def test_silence_about_what_nobody_has_judged_is_no_gain_and_sight_of_it_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault that the champion saw, in two alarms that wait for an operator's word."""
    alarms = [(11_000, 11_700), (12_200, 12_700)]
    frozen = examination(unjudged=tuple(episode(*each, None) for each in alarms))
    asked = as_judged(frozen, frozen.unjudged, PLANT)
    champion, sees = (examined(monkeypatch, asked, alarms) for _ in range(2))
    blind = examined(monkeypatch, asked, [])
    assert champion.figures["false_alarms"] == blind.figures["false_alarms"] == 0
    assert champion.figures["alarm_share"] == 0
    decision = judged_beside(blind, champion)
    assert not decision.is_passed
    assert "better in nothing that counts" in decision.why
    assert all(
        each.is_met for each in judged_beside(sees, champion).rulings if each.kind != "better"
    )

    # An operator's word repairs it, whatever the frozen file says.
    useful = as_judged(frozen, [episode(*each, "useful") for each in alarms], PLANT)
    champion, blind = (examined(monkeypatch, useful, each) for each in (alarms, []))
    assert (champion.figures["recall"], blind.figures["recall"]) == (1, 0)
    assert "recall 0 beside 1, worse" in judged_beside(blind, champion).why
    nuisance = as_judged(frozen, [episode(*each, "nuisance") for each in alarms], PLANT)
    champion, calm = (examined(monkeypatch, nuisance, each) for each in (alarms, []))
    assert champion.figures["false_alarms"] == 2
    assert judged_beside(calm, champion).is_passed


def test_the_baseline_is_asked_about_the_same_incidents() -> None:
    learned = recording(1_200)
    observations = [
        Observation(TICKS.start + each.tick, dict(each.senses), each.usable)
        for each in recording(1_000, seed=1)
    ]
    for at in range(500, 600):
        senses = observations[at].senses
        process = senses["process"].astype(np.float32) + np.array([9, -9, 9, 0], np.float32)
        observations[at] = Observation(
            TICKS.start + at, dict(senses) | {"process": process}, {"process": 1.0}
        )
    asked = examination(
        incidents=(episode(10_500, 10_600, "useful"), episode(10_800, 10_900, "useful"))
    )
    found = examine_baseline(learned, observations, asked, PLANT, held_out=0.3)
    assert found is not None
    assert found.figures["recall"] == 0.5
    assert found.delay_s["e10800"] is None
    delay_s = found.delay_s["e10500"]
    assert delay_s is not None
    assert 0 <= delay_s <= 10
