"""The base of every forecast: one closed-form linear map from the rows that were to the rows ahead.

Ridge regression of the future on the past, both less the level of the newest tick (instance
normalisation: Toner & Darlow 2024, "An analysis of linear time series forecasting models", show
that the linear forecasters of the literature are this one, constrained). Nothing is drawn and
nothing is iterated. The map is the mean over penalties a hundred times apart, which on unseen
rows was better than any one of them; whether tags share a map is chosen on rows that the fit never
saw.

Shapes: N windows, L rows of lookback, H rows ahead, G tags, K maps (1 if shared, else G).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError, RecipeError

Floats = NDArray[np.floating]
FILE = "linear_forecast.safetensors"
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""In units of the mean eigenvalue of the lookback's covariance."""
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class LinearForecast:
    """A fitted map; rows are standardised."""

    weights_KLH: Floats
    level_rows: int

    @property
    def lookback_rows(self) -> int:
        """L, the rows that a forecast needs."""
        return self.weights_KLH.shape[1]

    @property
    def horizon_rows(self) -> int:
        """H, the farthest row ahead."""
        return self.weights_KLH.shape[2]

    def forecast(self, past_NLG: Floats) -> Floats:
        """Return the rows ahead, [N, H, G]; a missing value counts as the tag's level.

        Raises:
            ValueError: The lookback has another length than the one fitted.
        """
        if past_NLG.shape[1] != self.lookback_rows:
            raise ValueError(
                f"a lookback must have {self.lookback_rows} rows, got {past_NLG.shape[1]}; cut the "
                "newest ones, or fit the forecast again"
            )
        level_NG = level_of(past_NLG, self.level_rows)
        deviation_NLG = np.nan_to_num(past_NLG - level_NG[:, None])
        if len(self.weights_KLH) == 1:
            ahead_NHG = np.einsum("nlg,lh->nhg", deviation_NLG, self.weights_KLH[0], optimize=True)
        else:
            ahead_NHG = np.einsum("nlg,glh->nhg", deviation_NLG, self.weights_KLH, optimize=True)
        return ahead_NHG + level_NG[:, None]

    def save(self, folder: Path) -> None:
        """Write the map into a model's folder."""
        arrays = {
            "weights": np.ascontiguousarray(self.weights_KLH),
            "level_rows": np.array([self.level_rows]),
        }
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> LinearForecast:
        """Return the map of the model version in ``folder``.

        Raises:
            InputError: It is not there.
        """
        path = folder / FILE
        if not path.is_file():
            raise InputError(f"a model folder must hold {FILE}, {folder} does not; train it again")
        arrays = load_file(path)
        return cls(arrays["weights"], int(arrays["level_rows"][0]))


def level_of(past_NLG: Floats, level_rows: int) -> Floats:
    """Return the mean of the newest rows of each tag, [N, G]; 0, the tag's mean, if none is known.

    Example:
        >>> level_of(np.array([[[0.0], [2.0], [4.0]]]), level_rows=2).tolist()
        [[3.0]]
    """
    newest = past_NLG[:, -level_rows:]
    known = np.isfinite(newest)
    return np.nansum(newest, axis=1) / np.maximum(known.sum(axis=1), 1)


def windows_of(
    stretches: Sequence[Floats], lookback_rows: int, horizon_rows: int, *, stride: int = 1
) -> Iterator[tuple[Floats, Floats]]:
    """Yield past [N, L, G] and future [N, H, G] of every window, some at a time, in order."""
    length = lookback_rows + horizon_rows
    for rows_RG in stretches:
        if len(rows_RG) < length:
            continue
        windows = sliding_window_view(rows_RG, length, axis=0)[::stride].swapaxes(1, 2)
        for begin in range(0, len(windows), CHUNK):
            part = windows[begin : begin + CHUNK]
            yield part[:, :lookback_rows], part[:, lookback_rows:]


def fit_linear_forecast(
    seen: Sequence[Floats],
    unseen: Sequence[Floats],
    *,
    lookback_rows: int,
    horizon_rows: int,
    level_rows: int = 1,
) -> LinearForecast:
    """Return the map fitted on the stretches ``seen``; ``unseen`` says whether tags share it.

    A stretch is a table of standardised rows without a gap in time, [R, G]; windows with a missing
    value are left out. Stretches of ``unseen`` begin with the lookback of their first forecast.

    Raises:
        RecipeError: No stretch holds a whole window.

    Example:
        >>> wave = np.sin(np.arange(400) / 5)[:, None]
        >>> fit = fit_linear_forecast([wave[:300]], [wave[260:]], lookback_rows=40, horizon_rows=10)
        >>> ahead = fit.forecast(wave[None, 300:340])
        >>> bool(np.abs(ahead[0] - wave[340:350]).max() < 0.3)
        True
    """
    grams_GLL, products_GLH = _moments(seen, lookback_rows, horizon_rows, level_rows)
    scale = float(np.trace(grams_GLL.sum(axis=0))) / lookback_rows / len(grams_GLL)
    ridges = [max(penalty * scale, 1e-9) * np.eye(lookback_rows) for penalty in PENALTIES]
    shared, own = (
        LinearForecast(
            np.mean([np.linalg.solve(grams + ridge, products) for ridge in ridges], axis=0),
            level_rows,
        )
        for grams, products in (
            (grams_GLL.mean(axis=0)[None], products_GLH.mean(axis=0)[None]),
            (grams_GLL, products_GLH),
        )
    )
    is_own = _mean_squared_error(own, unseen) < _mean_squared_error(shared, unseen)
    return own if is_own else shared


def _moments(
    stretches: Sequence[Floats], lookback_rows: int, horizon_rows: int, level_rows: int
) -> tuple[Floats, Floats]:
    """Return X'X [G, L, L] and X'Y [G, L, H] over all whole windows of each tag."""
    num_tags = stretches[0].shape[1] if stretches else 1
    grams_GLL = np.zeros((num_tags, lookback_rows, lookback_rows))
    products_GLH, count = np.zeros((num_tags, lookback_rows, horizon_rows)), 0
    for past_NLG, future_NHG in windows_of(stretches, lookback_rows, horizon_rows):
        level_NG = level_of(past_NLG, level_rows)
        is_known_NLHG = np.isfinite(np.concatenate([past_NLG, future_NHG], axis=1))
        whole_NG = np.asarray(is_known_NLHG.all(axis=1))
        x_GNL = np.where(whole_NG[:, None], past_NLG - level_NG[:, None], 0.0).transpose(2, 0, 1)
        y_GNH = np.where(whole_NG[:, None], future_NHG - level_NG[:, None], 0.0).transpose(2, 0, 1)
        grams_GLL += x_GNL.swapaxes(1, 2) @ x_GNL
        products_GLH += x_GNL.swapaxes(1, 2) @ y_GNH
        count += int(whole_NG.sum())
    if not count:
        raise RecipeError(
            f"a forecast needs stretches of at least {lookback_rows + horizon_rows} rows without a "
            "gap, and there is none; record longer, or take a shorter window"
        )
    return grams_GLL, products_GLH


def _mean_squared_error(found: LinearForecast, stretches: Sequence[Floats]) -> float:
    """Return the error on stretches; every third window is as good as all of them."""
    total, count = 0.0, 0
    for past, future in windows_of(stretches, found.lookback_rows, found.horizon_rows, stride=3):
        squared = (found.forecast(past) - future) ** 2
        total += float(np.nansum(squared))
        count += int(np.isfinite(squared).sum())
    return total / count if count else 0.0
