"""Whatever is asked for, a plan stays in its box and moves no faster than it may."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.planning.space import SetpointSpace, in_units, scaled
from fusion.plant import parse_plant
from tests.unit.planning.toy import PLANT

finite = st.floats(-50, 50)


@settings(deadline=None)
@given(
    now=st.tuples(st.floats(0, 1), st.floats(0, 10)),
    moves=st.lists(st.integers(1, 40), max_size=3, unique=True),
    deltas=st.lists(finite, min_size=8, max_size=8),
)
def test_a_plan_never_leaves_the_box_nor_passes_the_rate_limit(
    now: tuple[float, float], moves: list[int], deltas: list[float]
) -> None:
    moves_s = (0.0, *map(float, sorted(moves)))
    space = SetpointSpace.of(PLANT, np.array(now), moves_s=moves_s)
    targets = space.targets(np.array(deltas).reshape(1, 4, 2)[:, : len(moves_s)])
    times_s = np.arange(0, 61) * 1.0
    path_LU = space.paths(targets, times_s)[0]
    for column, tag in enumerate(PLANT.setpoints):
        low, high = min(tag.bounds[0], now[column]), max(tag.bounds[1], now[column])
        assert (path_LU[:, column] >= low).all()
        assert (path_LU[:, column] <= high).all()
    assert path_LU[0] == pytest.approx(now)
    assert (np.abs(np.diff(path_LU[:, 0])) <= 0.02 + 1e-9).all()


@settings(deadline=None)
@given(now=st.tuples(st.floats(0, 1), st.floats(0, 10)))
def test_holding_holds_even_outside_the_limits(now: tuple[float, float]) -> None:
    space = SetpointSpace.of(PLANT, np.array(now), moves_s=(0.0, 5.0))
    path_LU = space.paths(space.hold()[None], np.arange(30.0))[0]
    np.testing.assert_array_equal(path_LU, np.tile(now, (30, 1)))


def test_a_set_point_without_a_rate_limit_is_there_at_the_next_tick() -> None:
    space = SetpointSpace.of(PLANT, np.array([0.5, 5.0]))
    path_LU = space.paths(space.scenario({"warmth": 9.0, "goal": 0.6})[None], [0.0, 1.0, 2.0])[0]
    assert path_LU[:, 1].tolist() == [5.0, 9.0, 9.0]
    np.testing.assert_allclose(path_LU[:, 0], [0.5, 0.52, 0.54])


def test_a_second_move_goes_on_from_where_the_first_has_come_to() -> None:
    space = SetpointSpace.of(PLANT, np.array([0.5, 5.0]), moves_s=(0.0, 4.0))
    targets_KU = np.array([[0.9, 5.0], [0.5, 5.0]])
    path_LU = space.paths(targets_KU[None], np.arange(10.0))[0]
    np.testing.assert_allclose(
        path_LU[:, 0], [0.5, 0.52, 0.54, 0.56, 0.58, 0.56, 0.54, 0.52, 0.5, 0.5]
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=5))
def test_scaling_and_back_is_the_same(values: list[tuple[float, float]]) -> None:
    values_LU = np.array(values)
    np.testing.assert_allclose(in_units(scaled(values_LU, PLANT), PLANT), values_LU, atol=1e-5)


def test_moves_must_ascend() -> None:
    with pytest.raises(InputError, match="must ascend from 0 s or later"):
        SetpointSpace.of(PLANT, np.array([0.5, 5.0]), moves_s=(5.0, 0.0))


def test_a_plant_without_set_points_cannot_be_asked() -> None:
    plain = parse_plant(
        """
prefix: plain
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: p, modality: telemetry, rate_hz: 2, tags: [{name: t, unit: K, range: [0, 1]}]}
""",
        origin="plain.yaml",
    )
    with pytest.raises(InputError, match="needs set-points to move, and 'plain' has none"):
        SetpointSpace.of(plain, np.zeros(0))
