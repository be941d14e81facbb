"""The search finds the known optimum of a toy plant, stays in its limits, and never hides doubt."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.planning import Candidate, Confidence, Search, parse_goal, what_if
from fusion.planning.what_if import LIMITS, MOVES, UNFAMILIAR
from fusion.scoring.normal import Normal
from tests.unit.planning.toy import HORIZONS, PLANT, Formula, calibration, reader

WARM = parse_goal(PLANT, minimise=["heat"])
GOALS = {
    "warm": WARM,
    "level": parse_goal(PLANT, keep=["level near 0.6"]),
    "both": parse_goal(PLANT, minimise=["heat"], keep=["level in 0.3..0.4"]),
    "too high": parse_goal(PLANT, maximise=["level"]),
}


def named(candidates: list[Candidate], name: str) -> Candidate:
    return next(each for each in candidates if each.name == name)


def test_the_optimum_of_a_parabola_is_found() -> None:
    best = what_if(reader(), WARM, search=Search())[0]
    assert best.kind == "found"
    assert best.targets_KU[0, 1] == pytest.approx(7.0, abs=0.15)
    assert best.targets_KU[0, 0] == pytest.approx(0.5, abs=1e-9), "what does not help is left alone"


def test_a_band_is_reached_as_fast_as_the_rate_limit_lets_it() -> None:
    best = what_if(reader(goal=0.8), GOALS["both"], search=Search())[0]
    np.testing.assert_allclose(best.setpoints_HU[:2, 0], [0.78, 0.7], atol=1e-9)
    assert best.setpoints_HU[2, 0] == pytest.approx(0.4, abs=0.04)


def test_several_moves_are_searched_too() -> None:
    search = Search(rounds=12, population=128)
    best = what_if(reader(moves_s=(0.0, 5.0)), GOALS["both"], search=search)[0]
    assert best.targets_KU.shape == (2, 2)
    assert best.median_HG[-1, 0] == pytest.approx(0.35, abs=0.06)
    assert best.targets_KU[-1, 1] == pytest.approx(7.0, abs=0.3)


@pytest.mark.parametrize("goal", sorted(GOALS))
@pytest.mark.parametrize("search", [None, Search()])
def test_no_change_is_always_there_and_the_first_is_no_worse(
    goal: str, search: Search | None
) -> None:
    candidates = what_if(
        reader(), GOALS[goal], scenarios={"up": {"goal": 0.9}, "hot": {"warmth": 9}}, search=search
    )
    stays = named(candidates, "no change")
    assert stays.kind == "no change"
    np.testing.assert_array_equal(stays.setpoints_HU, np.tile([0.5, 5.0], (len(HORIZONS), 1)))
    assert [each.cost for each in candidates] == sorted(each.cost for each in candidates)
    assert {"up", "hot"} <= {each.name for each in candidates}


def test_where_nothing_is_better_nothing_is_advised() -> None:
    goal = parse_goal(PLANT, keep=["level near 0.5", "heat near 4"])
    candidates = what_if(reader(), goal, search=Search())
    assert candidates[0].kind == "no change"
    assert len(candidates) == 1


def test_a_limit_is_worth_more_than_a_wish() -> None:
    candidates = what_if(
        reader(), GOALS["too high"], scenarios={"over": {"goal": 0.95}}, search=Search()
    )
    best, over = candidates[0], named(candidates, "over")
    assert 0.8 < best.median_HG[-1, 0] < 0.9
    assert best.limits[0].p_cross < 0.1
    assert over.costs[LIMITS] > 0
    assert over.limits[0].p_cross == pytest.approx(0.5, abs=0.05)
    assert over.cost > named(candidates, "no change").cost


def test_the_guard_dominates_where_the_model_knows_nothing() -> None:
    tame = what_if(reader(), WARM, search=Search())[0]
    candidates = what_if(
        reader(inference=Formula(is_wild=True)),
        WARM,
        scenarios={"hot": {"warmth": 7}},
        search=Search(),
    )
    best, hot = candidates[0], named(candidates, "hot")
    assert best.targets_KU[0, 1] < 6 < tame.targets_KU[0, 1]
    assert hot.confidence is Confidence.LOW
    assert hot.costs[UNFAMILIAR] > 4, "more than all that the wish could win"
    assert hot.cost > named(candidates, "no change").cost
    assert best.confidence is not Confidence.LOW


def test_a_model_without_a_density_says_that_it_cannot_judge() -> None:
    bare = calibration(normal=Normal({}, {}, {}))
    [stays] = what_if(reader(calibrated=bare), WARM)
    assert stays.confidence is Confidence.UNKNOWN
    assert stays.costs[UNFAMILIAR] == 0


def test_equal_seeds_give_equal_plans() -> None:
    def found(seed: int) -> bytes:
        return what_if(reader(), WARM, search=Search(seed=seed))[0].targets_KU.tobytes()

    assert found(3) == found(3)
    assert found(3) != found(4)


def test_costs_are_split_by_term_and_add_up() -> None:
    stays = what_if(reader(), GOALS["both"])[0]
    assert set(stays.costs) == {
        "minimise heat",
        "keep level in 0.3..0.4",
        LIMITS,
        UNFAMILIAR,
        MOVES,
    }
    assert stays.cost == pytest.approx(sum(stays.costs.values()))
    assert stays.costs["minimise heat"] == pytest.approx(4.0)
    assert stays.costs["keep level in 0.3..0.4"] == pytest.approx(10 * 0.1**2, abs=0.01)


def test_many_plans_go_to_the_networks_in_few_calls() -> None:
    inference = Formula()
    what_if(reader(inference=inference), WARM, search=Search(rounds=4, population=100))
    assert inference.num_calls == 1 + 4 + 1


def test_the_networks_are_told_what_was_set_and_what_is_planned() -> None:
    inference = Formula()
    asked = reader(inference=inference)
    asked.read(asked.space.scenario({"goal": 0.6})[None])
    goal_TH = (inference.plans[0][0, :, :, 0] + 1) / 2
    np.testing.assert_allclose(goal_TH[-1], [0.52, 0.6, 0.6], atol=1e-6)
    np.testing.assert_allclose(goal_TH[0], [0.5, 0.5, 0.6], atol=1e-6)
    np.testing.assert_allclose(goal_TH[2], [0.5, 0.54, 0.6], atol=1e-6)


def test_scenarios_out_of_limits_or_of_other_tags_are_refused() -> None:
    with pytest.raises(InputError, match=r"'goal' may be moved between 0.2 and 0.95, got 0.99"):
        what_if(reader(), WARM, scenarios={"far": {"goal": 0.99}})
    with pytest.raises(InputError, match=r"must move set-points .* got 'level'; choose from"):
        what_if(reader(), WARM, scenarios={"x": {"level": 0.5}})
