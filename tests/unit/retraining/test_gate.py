"""Laws of the gate: what is worse never passes, and nobody is better than themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fusion.retraining.gate import Floor, GateRecipe, Kind, decide

RECIPE = GateRecipe()
FIGURES = sorted({r.figure for r in (*RECIPE.better, *RECIPE.not_worse, *RECIPE.floors)})
numbers = st.floats(-1e6, 1e6)
some = st.fixed_dictionaries({name: numbers | st.just(math.nan) for name in FIGURES})
GOOD = {
    "false_alarms": 2.0,
    "recall": 0.9,
    "median_delay_s": 20.0,
    "skill": 0.3,
    "coverage": 0.9,
    "rankme": 9.0,
    "alarm_share": 0.01,
}


@given(
    challenger=some,
    champion=some,
    guard=st.sampled_from(RECIPE.not_worse),
    theirs=numbers,
    by=st.floats(1e-3, 1e6),
)
def test_what_is_worse_on_a_guarded_figure_never_passes(
    challenger: dict[str, float],
    champion: dict[str, float],
    guard: object,
    theirs: float,
    by: float,
) -> None:
    rule = next(each for each in RECIPE.not_worse if each is guard)
    champion = champion | {rule.figure: theirs}
    worse = theirs - (rule.slack + by) * (1 if rule.is_higher_better else -1)
    assume(abs(worse - theirs) > rule.slack)
    told = decide(challenger | {rule.figure: worse}, champion, {}, RECIPE)
    assert not told.is_passed
    assert rule.figure.replace("_", " ") in told.why


@given(champion=some)
def test_the_champion_against_itself_is_no_worse_and_no_better(champion: dict[str, float]) -> None:
    told = decide(champion, champion, {}, RECIPE)
    assert not told.is_passed
    assert not any(each.is_met for each in told.rulings if each.kind is Kind.BETTER)
    assert all(each.is_met for each in told.rulings if each.kind is Kind.NOT_WORSE)


@given(champion=some, figure=st.sampled_from(["skill", "coverage", "recall"]))
def test_what_the_champion_has_and_the_challenger_has_not_counts_against_it(
    champion: dict[str, float], figure: str
) -> None:
    assume(math.isfinite(champion[figure]))
    without = {name: value for name, value in champion.items() if name != figure}
    assert not decide(without, champion, {}, RECIPE).is_passed


@given(challenger=some, champion=some | st.none(), floor=st.sampled_from(RECIPE.floors))
def test_no_floor_is_ever_passed_under(
    challenger: dict[str, float], champion: dict[str, float] | None, floor: Floor
) -> None:
    under = floor.limit - 1 if floor.is_higher_better else floor.limit + 1
    assert not decide(challenger | {floor.figure: under}, champion, {}, RECIPE).is_passed


def test_a_gain_passes_and_is_told_with_both_figures() -> None:
    told = decide(GOOD | {"false_alarms": 0.0}, GOOD, {}, RECIPE)
    assert told.is_passed
    assert told.why == "passed: false alarms 0 beside 2, better by 1.2"
    assert {each.kind for each in told.rulings} == {Kind.BETTER, Kind.NOT_WORSE, Kind.FLOOR}


def test_who_ends_an_alarm_that_never_ends_is_better() -> None:
    """It is raised once, so its number says nothing of it."""
    stuck = GOOD | {"alarm_share": 0.9, "false_alarms": 1.0}
    told = decide(GOOD | {"false_alarms": 0.0}, stuck, {}, RECIPE)
    assert told.why == "passed: alarm share 0.01 beside 0.9, better by 0.1"


@pytest.mark.parametrize(("recall", "passes"), [(0.9, True), (0.5, True), (0.4, False)])
def test_the_first_version_must_reach_the_baseline(recall: float, passes: bool) -> None:
    told = decide(GOOD | {"recall": recall}, None, {"recall": 0.5}, RECIPE)
    assert told.is_passed is passes
    # Where the baseline was measured on nothing, nothing is asked of the first version.
    assert decide(GOOD | {"recall": recall}, None, {}, RECIPE).is_passed
