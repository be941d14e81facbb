"""The event head: laws of a chance, and a plant whose true hazard is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError, RecipeError
from fusion.scoring.events import EventHead, Labelled, fit_event_head, outcomes

GRID = (1, 2, 4, 8, 16)


def toy(num_windows: int, seed: int, *, censor_at: float = 12.0) -> tuple[Labelled, np.ndarray]:
    """Windows of a machine whose hazard per tick is .02 or .2, told by its first feature."""
    draw = np.random.default_rng(seed)
    is_worn = draw.random(num_windows) < 0.5
    hazard = np.where(is_worn, 0.2, 0.02)
    ticks = draw.geometric(hazard).astype(float)
    has_event = ticks <= censor_at
    features = np.column_stack([is_worn * 1.0, draw.normal(size=num_windows)])
    group = np.arange(num_windows) % 10
    return Labelled(features, np.minimum(ticks, censor_at), has_event, group), hazard


@pytest.fixture(scope="module")
def head() -> EventHead:
    return fit_event_head(toy(2_000, 0)[0], grid=GRID, num_heads=2)


def test_a_chance_grows_with_time_and_stays_between_0_and_1(head: EventHead) -> None:
    features = np.random.default_rng(1).normal(scale=50, size=(200, 2))
    within = head.within(features)
    assert ((within >= 0) & (within <= 1)).all()
    assert (np.diff(within, axis=1) >= -1e-12).all()


def test_the_chance_of_a_known_hazard_is_found(head: EventHead) -> None:
    for worn, hazard in ((0.0, 0.02), (1.0, 0.2)):
        said = head.within(np.array([[worn, 0.0]]))[0, :4]
        assert said == pytest.approx(1 - (1 - hazard) ** np.array(GRID[:4]), abs=0.06)


def test_what_it_says_is_reliable(head: EventHead) -> None:
    assert sum(head.reliability.count) > 500
    assert head.reliability.error < 0.06


def test_the_order_of_labels_changes_nothing() -> None:
    windows, _ = toy(300, 2)
    shuffled = np.random.default_rng(0).permutation(300)
    other = Labelled(
        windows.features_NF[shuffled],
        windows.ticks_to_end_N[shuffled],
        windows.has_event_N[shuffled],
        windows.group_N[shuffled],
    )
    a, b = (fit_event_head(w, grid=GRID, num_heads=1) for w in (windows, other))
    assert np.array_equal(a.within(windows.features_NF), b.within(windows.features_NF))


def test_a_saved_head_says_the_same(head: EventHead, tmp_path: Path) -> None:
    head.save(tmp_path)
    again = EventHead.load(tmp_path)
    features = toy(20, 3)[0].features_NF
    assert np.array_equal(again.within(features), head.within(features))
    assert again.reliability == head.reliability
    with pytest.raises(InputError, match="fit a head first"):
        EventHead.load(tmp_path / "elsewhere")


def test_between_ends_of_the_grid_the_chance_is_a_line(head: EventHead) -> None:
    features = np.array([[1.0, 0.0]])
    ends = head.within(features)[0]
    said = head.within_each(features, (0, 3, 16))[0]
    assert said == pytest.approx([0, (ends[1] + ends[2]) / 2, ends[-1]])
    with pytest.raises(ValueError, match="longer grid"):
        head.within_each(features, (17,))


def test_the_expected_time_of_a_known_hazard_is_found(head: EventHead) -> None:
    # E min(T, 8) of a geometric time with hazard .2: the sum of .8^k for k = 0 to 7.
    said = head.expected_ticks(np.array([[1.0, 0.0]]), cap=8)[0]
    assert said == pytest.approx(sum(0.8**k for k in range(8)), rel=0.1)


def test_a_recording_that_ended_tells_nothing_about_later() -> None:
    windows = Labelled(np.zeros((1, 1)), np.array([3.0]), np.array([False]), np.array([0]))
    happened, known = outcomes(windows, np.array(GRID))
    assert not happened.any()
    assert known[0].tolist() == [True, True, False, False, False]


def test_impossible_labels_are_refused() -> None:
    windows, _ = toy(10, 0)
    none = Labelled(
        windows.features_NF, windows.ticks_to_end_N, np.zeros(10, bool), windows.group_N
    )
    with pytest.raises(RecipeError, match="at least one window before an event"):
        fit_event_head(none, grid=GRID)
    with pytest.raises(RecipeError, match="must ascend"):
        fit_event_head(windows, grid=(4, 2))
    with pytest.raises(InputError, match="at least 0"):
        Labelled(windows.features_NF, -windows.ticks_to_end_N, windows.has_event_N, windows.group_N)
