"""Event time to the page's x axis: minutes watched, with long silences folded away.

A recording of many experiments has days between them; drawn to scale they would hide the minutes
that matter. Each fold is marked on the chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

FOLD_AFTER_TICKS: Final = 120
_FOLD_WIDTH: Final = 0.006
"""Width of a fold as a part of the whole axis."""


class TimeAxis:
    """Places event times on an axis of minutes since the first scored tick."""

    def __init__(self, t_end_N_ns: Sequence[int] | NDArray[np.int64], *, tick_ns: int) -> None:
        times_ns = np.unique(np.asarray(t_end_N_ns, dtype=np.int64))
        if times_ns.size == 0:
            times_ns = np.zeros(1, dtype=np.int64)
        self._origin_ns = int(times_ns[0]) - tick_ns
        knots_ns = np.concatenate([[self._origin_ns], times_ns])
        steps_min = np.diff(knots_ns) / 60e9
        is_fold = steps_min > FOLD_AFTER_TICKS * tick_ns / 60e9
        watched_min = float(steps_min[~is_fold].sum())
        steps_min[is_fold] = max(watched_min * _FOLD_WIDTH, tick_ns / 60e9)
        self._knots_ns = (knots_ns - self._origin_ns).astype(np.float64)
        self._knots_min = np.concatenate([[0.0], np.cumsum(steps_min)])
        self.folds_min: list[tuple[float, float]] = [
            (float(self._knots_min[i]), float(self._knots_min[i + 1]))
            for i in np.flatnonzero(is_fold)
        ]
        self._fold_after_ns = FOLD_AFTER_TICKS * tick_ns

    @property
    def end_min(self) -> float:
        """The right end of the axis in minutes."""
        return float(self._knots_min[-1])

    def place(self, t_ns: int) -> float:
        """Return the position of one time in minutes; times outside are put at the edge."""
        return float(self.place_all(np.array([t_ns], dtype=np.int64))[0])

    def place_all(self, t_N_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the positions of many times in minutes."""
        since_N_ns = (t_N_ns - self._origin_ns).astype(np.float64)
        return np.interp(since_N_ns, self._knots_ns, self._knots_min)

    def breaks(self, t_N_ns: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the indices before which a line must be interrupted: there data are missing."""
        return np.flatnonzero(np.diff(t_N_ns) > self._fold_after_ns) + 1

    def line(
        self, t_N_ns: NDArray[np.int64], *values: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], ...]:
        """Return positions and values with a NaN in every gap, so that no line bridges it."""
        at = self.breaks(t_N_ns)
        columns = (self.place_all(t_N_ns), *values)
        return tuple(np.insert(column.astype(np.float64), at, np.nan) for column in columns)


def stride_for(num_points: int, most: int) -> int:
    """Return the step that thins ``num_points`` to at most ``most``: a page has so many pixels."""
    return max(1, -(-num_points // most))


def peaks(values_N: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Return the highest value of each run of ``stride``: thinning must not hide a peak.

    Example:
        >>> peaks(np.array([0.0, 3.0, 1.0, 1.0, 2.0]), 2)
        array([3., 1., 2.])
    """
    starts = np.arange(0, values_N.size, stride)
    return np.fmax.reduceat(values_N, starts) if values_N.size else values_N
