"""What the networks say about one window; what scores are made of.

Shapes: T ticks of the window (the newest last), H horizons, M streams, D and P embeddings,
R readings, G measured tags, Q quantiles, U set-points.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    z_hat_THD: Floats
    p_hat_THMP: Floats
    readings_hat_THR: Floats
    forecast_HGQ: Floats
    """Quantiles of the measured tags after the newest tick, standardised."""
    setpoints_TU: Floats
    usable: Mapping[str, float]
