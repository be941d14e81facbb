"""Laws of dividing what was seen: no tick is both learned from and examined on."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import RecipeError
from fusion.plant import NANOSECONDS
from fusion.retraining.incidents import (
    Examination,
    Incident,
    PeriodRecipe,
    as_judged,
    divide,
    minus,
    unjudged_share,
)
from fusion.schema.alarms import Judgement
from tests.unit.training.tiny import PLANT

RECIPE = PeriodRecipe(test_share=0.2, renew_after_s=100, margin_s=2, max_train_s=10_000)
spans = st.tuples(st.integers(0, 2_000), st.integers(1, 60))


def real(first: int, length: int, judgement: Judgement | None = "useful") -> Incident:
    onset, end = (round(tick * PLANT.tick_s * NANOSECONDS) for tick in (first, first + length))
    return Incident(episode=f"e{first}", alarm="a", onset_ns=onset, end_ns=end, judgement=judgement)


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


def test_what_nobody_has_judged_in_an_examination_is_frozen_with_it_and_told() -> None:
    told = [real(500, 20, None), real(850, 50, None), real(950, 10, "nuisance")]
    found = divide(range(1_000), [], told, RECIPE, PLANT, "v").examination
    assert [each.episode for each in found.unjudged] == ["e850"]
    # (An episode that ends as a tick begins has a part in it.)
    assert unjudged_share(found, PLANT) == pytest.approx(51 / 200)
    assert found.model_validate_json(found.model_dump_json()).name == found.name


def test_an_examination_without_such_alarms_keeps_the_name_that_its_file_has() -> None:
    """Of files that were written before there was such a field; they are found by their hash."""
    text = (
        '{"plant":"p","plant_fingerprint":"f","data_version":"v","first_tick":1,"stop_tick":9,'
        '"incidents":[]}'
    )
    found = Examination.model_validate_json(text)
    assert found.digest == hashlib.sha256(text.encode()).hexdigest()


def test_later_words_change_what_is_asked_and_not_what_is_frozen() -> None:
    first = [real(100, 9), real(820, 9), real(840, 9, None), real(860, 9, None)]
    frozen = divide(range(1_000), [], first, RECIPE, PLANT, "v").examination
    now = [
        real(100, 9),
        real(820, 9, "nuisance"),
        real(840, 9),
        real(860, 9, "nuisance"),
        real(880, 9, None),  # (told by a broker that was away)
        real(990, 90),
        real(1_200, 9),
    ]
    asked = as_judged(frozen, now, PLANT)
    assert [each.episode for each in asked.incidents] == ["e100", "e840", "e990"]
    assert [each.episode for each in asked.unjudged] == ["e880"]
    assert asked.ticks == frozen.ticks
    assert max(each.ticks(PLANT).stop for each in asked.incidents) <= frozen.stop_tick + 1
    assert as_judged(frozen, [], PLANT) == frozen, "what is not known any more stays as it was"


ranges = st.builds(lambda a, n: range(a, a + n), st.integers(0, 50), st.integers(0, 20))


@given(st.lists(ranges, max_size=1), st.lists(ranges, max_size=5))
def test_minus_is_that_of_sets(ours: list[range], cuts: list[range]) -> None:
    left = [tick for each in minus(ours, cuts) for tick in each]
    gone = {tick for each in cuts for tick in each}
    assert left == sorted({tick for each in ours for tick in each} - gone)
