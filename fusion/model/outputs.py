"""What the networks say about one window; what scores are made of.

Shapes: T ticks of the window (the newest last), H horizons, S of them inside the window, M streams,
D and P embeddings, R readings, G measured tags, Q quantiles, U set-points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowOutputs:
    """Embeddings and predictions of one window, and the readings to hold them against."""

    tick: int
    presence_TM: Floats
    z_TD: Floats
    p_TMP: Floats
    cross_TMP: Floats
    """``p`` of each stream as told by the other streams of the same tick."""
    readings_TR: Floats
    """Standardised; NaN where missing."""
    cross_readings_TR: Floats
    z_due_SD: Floats
    """What each horizon inside the window, in their order, expected of the newest tick."""
    p_due_SMP: Floats
    readings_due_SR: Floats
    z_ahead_HD: Floats
    """What is expected after the newest tick."""
    forecast_HGQ: Floats
    """Quantiles of the measured tags after the newest tick, standardised."""
    setpoints_TU: Floats
    usable: Mapping[str, float]


def due_pairs(window_ticks: int, horizons_ticks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions whose prediction is due at the newest tick, each with its horizon.

    One per horizon inside the window, in the order of ``horizons_ticks``.

    >>> due_pairs(24, (1, 4, 16, 40))
    [(22, 0), (19, 1), (7, 2)]
    """
    last = window_ticks - 1
    return [(last - h, column) for column, h in enumerate(horizons_ticks) if h <= last]


def by_today_s_names(
    told: Mapping[str, Floats], window_ticks: int, horizons_ticks: Sequence[int]
) -> Mapping[str, Floats]:
    """Return what a predictor said of B windows: ``z_due`` [B, S, D] and so on.

    A network that was exported by version 0.1 answers for every position of a window
    (``z_hat`` [B, T, H, D]); it is served until the next retraining replaces it.
    """
    if "z_hat" not in told:
        return told
    positions, columns = zip(*due_pairs(window_ticks, horizons_ticks), strict=True)
    due = {
        name: told[before][:, positions, columns]
        for name, before in (
            ("z_due", "z_hat"),
            ("p_due", "p_hat"),
            ("readings_due", "readings_hat"),
        )
    }
    return {**due, "z_ahead": told["z_hat"][:, -1], "forecast": told["forecast"]}
