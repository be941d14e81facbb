"""Bands that hold what they promise: conformal on unseen errors, then following what comes.

A band fitted once holds only while errors stay as they were when it was fitted (split conformal:
Vovk et al. 2005; Romano et al. 2019). A plant that drifts, or a calibration of half an hour that
did not show all of its states, breaks that. The live band is therefore widened or narrowed after
every outcome (quantile tracking: Gibbs & Candes 2021; Angelopoulos et al. 2023, "Conformal PID
control", section 2.1), which holds the promised share in the long run whatever the plant does.

Shapes: N forecasts, H rows ahead, G tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
COVERAGE = 0.9
RATE = 0.05
"""Part of the calibrated spread that one miss adds to a side of the band, at most."""
MAX_NARROWING = 0.01
"""Part of that spread that a side may lose while the first outcome is still to come.

Forecasts far ahead miss together, being of overlapping times; ten times this value made the bands
of ETTh1 hold less than fixed ones (docs/experiments/forecasting.md).
"""


def fit_bands(errors_NHG: Floats, *, coverage: float = COVERAGE) -> Floats:
    """Return the low and high end of a band around the forecast, [2, H, G], from unseen errors.

    Each side leaves out half of what is not covered. Errors are what came less the forecast;
    unknown ones (NaN) do not count.

    Example:
        >>> errors = np.arange(-50.0, 51.0).reshape(-1, 1, 1)
        >>> fit_bands(errors).ravel().tolist()
        [-45.0, 45.0]
    """
    out = (1 - coverage) / 2
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.nanquantile(errors_NHG, [out, 1 - out], axis=0))


def following_rate(delay_H: NDArray[np.int64], *, out: float) -> Floats:
    """Return how fast each row may learn whose outcomes come ``delay_H`` forecasts later, [H].

    Example:
        >>> following_rate(np.array([1, 40, 400]), out=0.05).tolist()
        [0.05, 0.005, 0.0005]
    """
    return np.minimum(RATE, MAX_NARROWING / (out * np.maximum(delay_H, 1)))


class FollowingBands:
    """A band that learns from every outcome, when it comes.

    ``delay_H`` is how many forecasts are made before the outcome of one is known: whoever learns
    late must learn slowly, or the band swings.
    """

    def __init__(
        self, bands_2HG: Floats, delay_H: NDArray[np.int64], *, coverage: float = COVERAGE
    ) -> None:
        self._bands = bands_2HG.copy()
        self._out = (1 - coverage) / 2
        rate_H = following_rate(delay_H, out=self._out)
        # A band of width 0 must be able to grow.
        self._step = rate_H[:, None] * np.maximum(bands_2HG[1] - bands_2HG[0], 1e-3)

    @property
    def bands(self) -> Floats:
        """The low and high end around a forecast that is made now, [2, H, G]."""
        return self._bands.copy()

    def update(self, errors_HG: Floats) -> None:
        """Learn what came less what was forecast; unknown errors (NaN) change nothing."""
        known_HG = np.isfinite(errors_HG)
        error_HG = np.nan_to_num(errors_HG)
        is_below, is_above = error_HG < self._bands[0], error_HG > self._bands[1]
        self._bands[0] -= np.where(known_HG, self._step * (is_below - self._out), 0.0)
        self._bands[1] += np.where(known_HG, self._step * (is_above - self._out), 0.0)

    def snapshot(self) -> dict[str, Any]:
        """Return the state, for JSON."""
        return {"bands": self._bands.tolist()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self._bands = np.array(snapshot["bands"], np.float64)


def followed(errors_NHG: Floats, bands_2HG: Floats, delay_H: NDArray[np.int64]) -> Floats:
    """Return the share of outcomes inside a following band, [H, G], forecasts being in order.

    The error of row h of a forecast is known ``delay_H[h]`` forecasts later, and not used before.
    """
    following = FollowingBands(bands_2HG, delay_H)
    num_forecasts, num_rows = errors_NHG.shape[:2]
    rows_H = np.arange(num_rows)
    inside, known = np.zeros(errors_NHG.shape[1:]), np.zeros(errors_NHG.shape[1:])
    for index in range(num_forecasts):
        made_H = index - delay_H
        errors_HG = errors_NHG[np.maximum(made_H, 0), rows_H]
        following.update(np.where((made_H >= 0)[:, None], errors_HG, np.nan))
        low, high = following.bands
        now_HG = errors_NHG[index]
        inside += (now_HG >= low) & (now_HG <= high)
        known += np.isfinite(now_HG)
    return inside / np.maximum(known, 1)
