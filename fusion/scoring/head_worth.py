"""Whether an event head may be kept: what it says against what came, beside who knows less.

Shapes: N windows, K ends of a head's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.scoring.events import EventHead, Labelled, outcomes, seen_and_unseen

Floats = NDArray[np.floating]
GAIN = 0.05
"""Of the base rate's error: so much better a head must be. Its calibration has seen the stretches
that it is asked about, and a head of noise was better by .003 for that alone."""
SLACK = 0.1
"""Of the base rate's error: so much worse than the head before a new one may be. That one has
learned from most of the stretches that are held back from the new one."""


@dataclass(frozen=True, slots=True)
class HeadWorth:
    """Brier errors in the stretches that were held back; NaN where nothing could be."""

    error: float
    base_rate: float
    before: tuple[float, float] | None = None
    """Of the head before, and of this one at the ends that both were fitted for."""

    def refusal(self) -> str | None:
        """Return why the head is not kept; None where it is."""
        refused = "the head that was fitted is not kept: "
        most = (1 - GAIN) * self.base_rate
        if not self.error <= most:  # (nor with NaN)
            return (
                f"{refused}in the stretches that were held back its error is {self.error:.3f}, and "
                f"may be {most:.3f}: saying at every moment how often alarms come has "
                f"{self.base_rate:.3f}; judge more with `fusion alarms verdict`"
            )
        if self.before is None:
            return None
        before, same = self.before
        if same > before + SLACK * self.base_rate:
            return (
                f"{refused}in the stretches that were held back its error is {same:.3f}, and that "
                f"of the head before {before:.3f}, which stays; judge more with `fusion alarms "
                "verdict`"
            )
        return None

    def told(self) -> str:
        """Return the errors in words."""
        told = f"with an error of {self.error:.3f} beside {self.base_rate:.3f} of the base rate"
        before = "" if self.before is None else f" and {self.before[0]:.3f} of the head before"
        return told + before


def head_worth(
    head: EventHead, labelled: Labelled, *, seed: int, before: EventHead | None = None
) -> HeadWorth:
    """Return what ``head``, fitted on ``labelled`` with ``seed``, is worth where it did not learn.

    Its calibration has seen those stretches, which flatters it a little; the base rate is told how
    often events came in them, which flatters that one more.
    """
    _, unseen = seen_and_unseen(labelled, head.grid_K, seed=seed)
    error, base_rate = brier_error(head, unseen, head.grid_K), base_rate_error(unseen, head.grid_K)
    if before is None or before.num_features != head.num_features:
        return HeadWorth(error, base_rate)
    both = [end for end in head.grid_K if end <= before.grid_K[-1]]
    if not both:
        return HeadWorth(error, base_rate)
    same = brier_error(before, unseen, both), brier_error(head, unseen, both)
    return HeadWorth(error, base_rate, same)


def brier_error(head: EventHead, labelled: Labelled, grid: Sequence[int]) -> float:
    """Return the mean square between the chance of an event within each of ``grid`` and what came.

    Brier (1950), over all windows and those ends of which the outcome is known; NaN where none is.
    """
    return _mean_square(head.within_each(labelled.features_NF, grid), labelled, grid)


def base_rate_error(labelled: Labelled, grid: Sequence[int]) -> float:
    """Return the same of saying of every window how often the event came within each end.

    It is told how often that was among ``labelled`` themselves: what is no better knows nothing of
    one moment that it does not know of any other.

    Example:
        Of two machines one fails within 5 ticks: one half each, and a quarter is the error.

        >>> windows = Labelled(
        ...     np.zeros((2, 1)), np.array([3.0, 9.0]), np.array([True, False]), np.array([0, 1])
        ... )
        >>> base_rate_error(windows, [5])
        0.25
    """
    happened_NK, known_NK = outcomes(labelled, np.array(grid, np.int64))
    counted_NK = known_NK * labelled.weights()[:, None]
    rate_K = (counted_NK * happened_NK).sum(axis=0) / np.maximum(counted_NK.sum(axis=0), 1e-9)
    return _mean_square(np.broadcast_to(rate_K, known_NK.shape), labelled, grid)


def _mean_square(said_NK: Floats, labelled: Labelled, grid: Sequence[int]) -> float:
    happened_NK, known_NK = outcomes(labelled, np.array(grid, np.int64))
    counted_NK = known_NK * labelled.weights()[:, None]
    if not counted_NK.sum():
        return float("nan")
    return float((counted_NK * (said_NK - happened_NK) ** 2).sum() / counted_NK.sum())
