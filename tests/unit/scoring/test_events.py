"""The event head: laws of a chance, and a plant whose true hazard is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fusion.errors import InputError, RecipeError
from fusion.scoring.events import (
    FILE,
    MAX_FILE_BYTES,
    EventHead,
    Labelled,
    fit_event_head,
    outcomes,
)

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


def stretches(num_events: int, num_open: int) -> Labelled:
    """Return stretches of 20 ticks: so many end with an event, so many are cut off."""
    num = num_events + num_open
    group = np.repeat(np.arange(num), 20)
    to_end = np.tile(np.arange(20, 0, -1.0), num)
    return Labelled(np.zeros((20 * num, 1)), to_end, group < num_events, group)


@pytest.mark.parametrize("seed", range(4))
def test_a_head_is_never_calibrated_on_stretches_without_an_event(seed: int) -> None:
    """Were only cut-off stretches held out, every chance would come down to nothing."""
    windows = stretches(num_events=5, num_open=3)
    head = fit_event_head(windows, grid=(10,), seed=seed, num_heads=1)
    # Of the 10 ticks before an end, of eight stretches, five have an event, all others none.
    assert 0.15 < float(head.within(np.zeros((1, 1)))[0, 0]) < 0.55
    assert sum(head.reliability.count) > 0


def test_of_events_in_too_few_stretches_nothing_is_held_out_and_nothing_claimed() -> None:
    head = fit_event_head(stretches(num_events=4, num_open=8), grid=(10,), num_heads=1)
    assert np.isnan(head.reliability.error)
    assert (head.scale, head.shift) == (1.0, 0.0)


def test_what_was_left_out_counts_through_what_stands_for_it() -> None:
    windows, _ = toy(4_000, 3)
    is_kept = windows.has_event_N | (np.arange(len(windows)) % 8 == 0)
    weight = np.where(windows.has_event_N, 1.0, 8.0)
    thinned = replace(windows, weight_N=weight).part(is_kept)
    said, told, blind = (
        fit_event_head(each, grid=GRID, num_heads=1).within(np.array([[0.0, 0.0], [1.0, 0.0]]))
        for each in (windows, thinned, replace(thinned, weight_N=None))
    )
    assert np.abs(told - said).mean() < np.abs(blind - said).mean() / 2


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


def test_a_file_that_is_no_head_is_refused_in_words(head: EventHead, tmp_path: Path) -> None:
    path = tmp_path / FILE

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            EventHead.load(tmp_path)

    head.save(tmp_path)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("must be an event head")
    for name, array, match in (
        ("weight_1", head.arrays["weight_1"][:, :-1], "arrays must be"),
        ("bias_2", np.full_like(head.arrays["bias_2"], np.nan), "must be numbers"),
        ("std", np.zeros_like(head.arrays["std"]), "above 0"),
    ):
        replace(head, arrays={**head.arrays, name: array}).save(tmp_path)
        refused(match)
    replace(head, arrays={k: v for k, v in head.arrays.items() if k != "std"}).save(tmp_path)
    refused("arrays must be")
    replace(head, grid_K=(8, 4, 2, 1, 16)).save(tmp_path)
    refused("must ascend")
    replace(head, shift=float("inf")).save(tmp_path)
    refused("must be numbers")
    save_file({"mean": np.zeros((1, 1), np.float32)}, path)
    refused("event_head")
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    refused("may have")
