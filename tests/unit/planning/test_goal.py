"""Goals read as operators write them; what they cost is the expectation over the forecast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.planning import Term, parse_goal
from fusion.planning.goal import KEEP_WEIGHT, horizon_weights
from tests.unit.planning.toy import PLANT


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("level in 0.5..0.7", Term("keep", "level", 0.5, 0.7)),
        ("level in -1 .. 2e0", Term("keep", "level", -1.0, 2.0)),
        ("level near .6", Term("keep", "level", 0.6, 0.6)),
        ("level  below 62", Term("keep", "level", None, 62.0)),
        ("level above -3.5 x2", Term("keep", "level", -3.5, None, 2.0)),
    ],
)
def test_bands_read_as_they_are_written(text: str, term: Term) -> None:
    assert parse_goal(PLANT, keep=[text]).terms == (term,)
    assert parse_goal(PLANT, keep=[str(term).removeprefix("keep ")]).terms == (term,)


def test_wishes_have_weights() -> None:
    goal = parse_goal(PLANT, minimise=["heat x 3"], maximise=["level"])
    assert goal.terms == (Term("minimise", "heat", weight=3.0), Term("maximise", "level"))
    assert [str(term) for term in goal.terms] == ["minimise heat x3", "maximise level"]


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({}, r"must say what is wanted, got nothing; give for example --minimise level"),
        ({"minimise": ["hat"]}, r"about tags of this plant, got 'hat'; .* \['level', 'heat'\]"),
        ({"minimise": ["goal"]}, r"'goal' is a set-point: .* \(--set goal=VALUE\)"),
        ({"keep": ["level 0.5"]}, r"must read 'TAG in LOW..HIGH', .* got 'level 0.5'"),
        ({"keep": ["level in 0.5-0.7"]}, r"must read 'TAG in LOW..HIGH'"),
        ({"keep": ["level in 0.7..0.5"]}, r"must satisfy LOW <= HIGH, .*swap 0.7 and 0.5"),
        ({"keep": ["level near 0.5 x0"]}, r"weight of a wish must be above 0"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(wishes: dict[str, list[str]], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_goal(PLANT, **wishes)


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0.01, 2), st.floats(-1, 0), st.floats(0, 1))
def test_a_kept_band_costs_the_expected_square_outside(
    mean: float, spread: float, low: float, high: float
) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    values = mean + spread * nodes
    outside = np.maximum(values - high, 0) ** 2 + np.maximum(low - values, 0) ** 2
    expected = KEEP_WEIGHT * (weights * outside).sum() / weights.sum()
    term = Term("keep", "level", low, high)
    cost = term.cost(np.array(mean), np.array(spread), centre=0.0, std=1.0)
    assert float(cost) == pytest.approx(expected, rel=0.02, abs=0.02)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3))
def test_what_is_certain_costs_its_square(value: float) -> None:
    cost = Term("keep", "level", None, 1.0).cost(np.array(value), np.zeros(()), centre=0.0, std=2.0)
    assert float(cost) == pytest.approx(10 * max(0.0, (value - 1) / 2) ** 2, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=6, unique=True))
def test_horizons_share_the_time_ahead(horizons_s: list[float]) -> None:
    weights = horizon_weights(sorted(horizons_s))
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)
