"""The rules of a rollback: each has an example that breaks it, and one that only comes near."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.errors import InferenceUnavailableError, ModelLoadingError
from fusion.plant import NANOSECONDS
from fusion.rollout.judging import Limits, Rule, Seen, problem
from fusion.rollout.metering import RECENT_S, Meter, MeteredInference
from fusion.schema import Verdict
from tests.clocks import HandClock

LIMITS = Limits()
WELL = Seen(num_calls=100, p95_s=0.01, num_ticks=1000, num_alarms=2)


def broken(seen: Seen, beside: Seen = WELL) -> Rule | None:
    found = problem(seen, beside, LIMITS, tick_s=0.5)
    return None if found is None else found.rule


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"parity_broken": "'z' differs"}, Rule.PARITY),
        ({"num_failed": 5}, None),
        ({"num_failed": 6}, Rule.ERRORS),
        ({"num_calls": 4, "num_failed": 4}, None),
        ({"num_calls": 5, "num_failed": 5}, Rule.ERRORS),
        ({"num_calls": 19, "p95_s": 2.0}, None),
        ({"p95_s": 0.25}, None),
        ({"p95_s": 0.26}, Rule.LATENCY),
        ({"num_alarms": 7}, None),
        ({"num_alarms": 8}, Rule.ALARMS),
        ({"num_alarms": 8, "num_ticks": 59}, None),
        ({"num_alarm_ticks": 200}, None),
        ({"num_alarm_ticks": 201}, Rule.ALARMS),
        ({"num_nuisance": 2}, None),
        ({"num_nuisance": 3}, Rule.NUISANCE),
        ({"num_nuisance": 3, "num_useful": 3}, None),
    ],
)
def test_each_rule(changes: dict[str, object], rule: Rule | None) -> None:
    assert broken(WELL.model_copy(update=changes)) is rule


@pytest.mark.parametrize(
    ("tick_s", "enough"), [(0.1, 300), (0.5, 60), (1.0, 30), (1.5, 20), (10.0, 20)]
)
def test_alarms_are_judged_after_half_a_minute_whatever_a_tick_lasts(
    tick_s: float, enough: int
) -> None:
    for num_ticks, rule in ((enough - 1, None), (enough, Rule.ALARMS)):
        alarming = Seen(num_ticks=num_ticks, num_alarm_ticks=num_ticks)
        found = problem(alarming, Seen(num_ticks=num_ticks), LIMITS, tick_s=tick_s)
        assert (found and found.rule) is rule


def test_a_server_that_is_away_accuses_nobody() -> None:
    away = WELL.model_copy(update={"num_failed": 100, "p95_s": 2.0})
    assert broken(away, away) is None


def test_a_plant_that_is_broken_accuses_nobody() -> None:
    alarming = WELL.model_copy(update={"num_alarms": 60})
    assert broken(alarming, alarming) is None


def test_a_version_that_says_nothing_where_the_other_alarms_goes_back() -> None:
    assert broken(WELL.model_copy(update={"num_alarms": 0})) is None
    alarming = WELL.model_copy(update={"num_alarms": 20})
    assert broken(WELL.model_copy(update={"num_alarms": 0}), alarming) is Rule.ALARMS


def test_who_is_silent_where_the_other_s_alarms_are_a_nuisance_is_well() -> None:
    """A plant has moved: the champion alarms all the time, the version made for it does not."""
    noisy = WELL.model_copy(update={"num_alarms": 20, "num_alarm_ticks": 900, "num_nuisance": 3})
    silent = WELL.model_copy(update={"num_alarms": 0})
    assert broken(silent, noisy) is None
    assert broken(noisy, silent) is Rule.ALARMS, "the other way round nothing is forgiven"
    for said in ({"num_nuisance": 0}, {"num_nuisance": 1}, {"num_useful": 3}):
        assert broken(silent, noisy.model_copy(update=said)) is Rule.ALARMS
    stands = noisy.model_copy(update={"num_alarms": 1, "num_nuisance": 1})
    assert broken(silent, stands) is None, "it never ends, and is judged once"


def test_a_slow_server_accuses_neither() -> None:
    """Who only listens is given up sooner: its deadline fails it alone, or hides how slow it is."""
    slow = WELL.model_copy(update={"num_calls": 100, "p95_s": 0.9})
    cut_off = WELL.model_copy(update={"num_calls": 100, "num_failed": 100, "p95_s": 0.0})
    assert broken(cut_off, slow) is None, "a shadow beside a champion that is slow too"
    assert broken(slow, cut_off) is None, "a new champion beside a standby that is cut off"
    quick = WELL.model_copy(update={"num_calls": 100})
    assert broken(cut_off, quick) is Rule.ERRORS
    assert broken(slow, quick) is Rule.LATENCY


@given(st.integers(0, 300), st.integers(0, 300))
def test_two_versions_that_do_the_same_are_both_well(num_alarms: int, num_ticks: int) -> None:
    same = WELL.model_copy(update={"num_alarms": num_alarms, "num_ticks": num_ticks})
    assert broken(same, same) is None


class Flaky:
    """Answers, or fails, as the test says."""

    is_away = False

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock

    def infer(self, network: str, inputs: object) -> dict[str, object]:
        self._clock.sleep(0.1)
        if self.is_away:
            raise InferenceUnavailableError("away")
        return {}

    def close(self) -> None:
        """Nothing to free."""


def test_calls_are_counted_and_forgotten() -> None:
    clock = HandClock()
    meter = Meter(clock)
    flaky = Flaky(clock)
    metered = MeteredInference(flaky, meter, clock)  # type: ignore[arg-type]
    for flaky.is_away in (False, True, False):
        try:
            metered.infer("encoder", {})
        except InferenceUnavailableError:
            assert flaky.is_away
    seen = meter.seen()
    assert (seen.num_calls, seen.num_failed) == (3, 1)
    assert seen.p95_s == pytest.approx(0.1)
    clock.sleep(RECENT_S + 1)
    assert meter.seen().num_calls == 0
    assert clock.monotonic_ns() > RECENT_S * NANOSECONDS


@pytest.mark.parametrize("tick_s", [0.5, 3.0, 10.0, 60.0])
def test_calls_are_judged_however_rarely_a_plant_has_a_tick(tick_s: float) -> None:
    clock = HandClock()
    meter = Meter(clock, tick_s=tick_s)
    for _ in range(15):
        for _ in ("encoder", "predictor"):
            meter.called(1.0, has_failed=False)
        clock.sleep(tick_s)
    found = problem(meter.seen(), WELL, LIMITS, tick_s=tick_s)
    assert found is not None
    assert found.rule is Rule.LATENCY


def test_a_network_that_is_being_loaded_is_no_failure_of_its_version() -> None:
    clock = HandClock()
    meter = Meter(clock)
    metered = MeteredInference(Loading(), meter, clock)
    with pytest.raises(ModelLoadingError):
        metered.infer("encoder", {})
    assert meter.seen().num_calls == 0
    assert meter.calls().num_failed == 0


class Loading:
    """A version that its server is still loading."""

    def infer(self, network: str, inputs: object) -> dict[str, NDArray[np.float32]]:
        raise ModelLoadingError("not yet")

    def close(self) -> None:
        """Nothing to free."""


def test_a_verdict_on_another_versions_alarm_counts_for_nothing() -> None:
    meter = Meter(HandClock())
    meter.judged(Verdict(id="1", plant="p", episode="e", judgement="nuisance", who="anna", t_ns=0))
    assert meter.seen().num_nuisance == 0


def test_an_alarm_is_judged_also_in_a_later_role_and_only_where_it_was_heard() -> None:
    spoke, listened = Meter(HandClock()), Meter(HandClock())
    said = Verdict(id="1", plant="p", episode="e", judgement="nuisance", who="anna", t_ns=0)
    raised = SimpleNamespace(transition="raised", id="e")
    score = SimpleNamespace(surprise=2.0)
    spoke.scored(score, [raised])  # type: ignore[arg-type] (no more of them is looked at)
    listened.scored(score, [raised], is_heard=False)  # type: ignore[arg-type]
    for meter in (spoke, listened):
        assert (meter.seen().num_alarms, meter.seen().mean_surprise) == (1, 2.0)
        meter.begin_anew()
        meter.judged(said)
        assert (meter.seen().num_alarms, meter.seen().num_ticks) == (0, 0)
    assert (spoke.seen().num_nuisance, listened.seen().num_nuisance) == (1, 0)


def test_how_long_a_call_lasted_that_failed_is_no_latency() -> None:
    meter = Meter(HandClock())
    for _ in range(30):
        meter.called(0.01, has_failed=False)
        meter.called(0.5, has_failed=True)
    assert meter.seen().num_failed == 30
    assert meter.seen().p95_s == pytest.approx(0.01)
