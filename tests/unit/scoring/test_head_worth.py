"""A head is kept when it knows more than how often alarms come, and no less than the one before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion.scoring.events import EventHead, Labelled, fit_event_head
from fusion.scoring.head_worth import base_rate_error, brier_error, head_worth

GRID = (5, 10)
NUM_GROUPS, GROUP = 20, 30


def windows(*, is_told: bool) -> Labelled:
    """Return machines that fail; whether soon is told by a feature, or by none."""
    rest = np.tile(np.arange(GROUP, 0, -1.0), NUM_GROUPS)
    noise = np.random.default_rng(3).normal(size=rest.shape)
    features_NF = np.stack([rest <= GRID[0] if is_told else noise, noise], axis=1).astype(float)
    group = np.repeat(np.arange(NUM_GROUPS), GROUP)
    return Labelled(features_NF, rest, np.ones(len(rest), bool), group)


@pytest.fixture(scope="module")
def knowing() -> EventHead:
    return fit_event_head(windows(is_told=True), grid=GRID, num_heads=1)


@pytest.fixture(scope="module")
def guessing() -> EventHead:
    return fit_event_head(windows(is_told=False), grid=GRID, num_heads=1)


def test_one_that_knows_is_kept_and_one_that_guesses_is_not(
    knowing: EventHead, guessing: EventHead
) -> None:
    worth = head_worth(knowing, windows(is_told=True), seed=0)
    assert worth.error < 0.5 * worth.base_rate
    assert worth.refusal() is None
    refusal = head_worth(guessing, windows(is_told=False), seed=0).refusal()
    assert refusal is not None
    assert "how often alarms come" in refusal


def test_one_that_is_worse_than_the_head_before_is_not_kept(
    knowing: EventHead, guessing: EventHead
) -> None:
    told = windows(is_told=True)
    dulled = replace(knowing, shift=knowing.shift + 1.5)
    worth = head_worth(dulled, told, seed=0, before=knowing)
    assert worth.error < worth.base_rate, "worth something, and still the lesser"
    refusal = worth.refusal()
    assert refusal is not None
    assert "of the head before" in refusal
    assert head_worth(knowing, told, seed=0, before=guessing).refusal() is None
    assert head_worth(knowing, told, seed=0, before=knowing).refusal() is None
    # (A head of fewer times is asked about those alone.)
    short = fit_event_head(told, grid=GRID[:1], num_heads=1)
    assert head_worth(knowing, told, seed=0, before=short).before is not None


def test_where_nothing_can_be_held_back_nothing_is_known_and_nothing_kept(
    knowing: EventHead,
) -> None:
    told = windows(is_told=True)
    few = told.part(told.group_N < 4)
    worth = head_worth(knowing, few, seed=0)
    assert np.isnan(worth.error)
    assert worth.refusal() is not None


def test_a_base_rate_is_worth_what_its_variance_is() -> None:
    told = windows(is_told=True)
    shares = [5 / GROUP, 10 / GROUP]
    expected = np.mean([share * (1 - share) for share in shares])
    assert base_rate_error(told, GRID) == pytest.approx(expected)
    never = fit_event_head(told, grid=GRID, num_heads=1)
    never = replace(never, scale=0.0, shift=-30.0)
    assert brier_error(never, told, GRID) == pytest.approx(np.mean(shares))
