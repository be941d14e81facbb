"""Laws of dividing what was seen: no tick is both learned from and examined on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import RecipeError
from fusion.plant import NANOSECONDS
from fusion.retraining.incidents import Examination, Incident, PeriodRecipe, divide, minus
from tests.unit.training.tiny import PLANT

RECIPE = PeriodRecipe(test_share=0.2, renew_after_s=100, margin_s=2, max_train_s=10_000)
spans = st.tuples(st.integers(0, 2_000), st.integers(1, 60))


def real(first: int, length: int) -> Incident:
    onset, end = (round(tick * PLANT.tick_s * NANOSECONDS) for tick in (first, first + length))
    return Incident(episode=f"e{first}", alarm="a", onset_ns=onset, end_ns=end, judgement="useful")


@given(st.lists(spans, max_size=4), st.lists(st.integers(250, 900), min_size=1, max_size=5))
def test_nothing_examined_or_wrong_is_ever_learned_from(
    wrong: list[tuple[int, int]], growth: list[int]
) -> None:
    incidents, frozen, stop = [real(*each) for each in wrong], list[Examination](), 0
    for each in growth:
        stop += each
        try:
            periods = divide(range(stop), frozen, incidents, RECIPE, PLANT, "v")
        except RecipeError:
            continue
        frozen = [*frozen, periods.examination] if periods.is_new else frozen
        learned = {tick for part in periods.train for tick in part}
        assert not learned & {tick for test in frozen for tick in test.ticks}
        assert not learned & {tick for bad in incidents for tick in bad.ticks(PLANT)}
        assert len(learned) * PLANT.tick_s <= RECIPE.max_train_s
    assert len({each.name for each in frozen}) == len(frozen)


def test_an_examination_is_used_again_until_enough_came_after_it() -> None:
    first = divide(range(1_000), [], [], RECIPE, PLANT, "v1")
    assert (first.examination.ticks, first.is_new) == (range(800, 1_000), True)
    again = divide(range(1_199), [first.examination], [], RECIPE, PLANT, "v2")
    assert (again.examination, again.is_new) == (first.examination, False)
    later = divide(range(1_200), [first.examination], [], RECIPE, PLANT, "v3")
    assert (later.examination.ticks, later.is_new) == (range(1_160, 1_200), True)
    assert later.train == (range(796), range(1_004, 1_156))


def test_nothing_left_to_learn_from_is_said() -> None:
    with pytest.raises(RecipeError, match="something must be left"):
        divide(range(100), [], [real(0, 200)], RECIPE, PLANT, "v")


def test_only_the_newest_is_learned_from() -> None:
    short = RECIPE.model_copy(update={"max_train_s": 50.0})
    assert divide(range(1_000), [], [], short, PLANT, "v").train == (range(696, 796),)


ranges = st.builds(lambda a, n: range(a, a + n), st.integers(0, 50), st.integers(0, 20))


@given(st.lists(ranges, max_size=1), st.lists(ranges, max_size=5))
def test_minus_is_that_of_sets(ours: list[range], cuts: list[range]) -> None:
    left = [tick for each in minus(ours, cuts) for tick in each]
    gone = {tick for each in cuts for tick in each}
    assert left == sorted({tick for each in ours for tick in each} - gone)
