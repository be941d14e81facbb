"""The closed-form part of a model: how readings go on and answer set-points, by least squares.

Shapes: N ticks, R readings, U set-points, H horizons.
"""

from __future__ import annotations

import numpy as np
import torch

from fusion.features import TickFeatures, held
from fusion.model import Jepa

MAX_TICKS = 10_000
"""Neighbouring ticks say the same: more of them cost memory and tell nothing."""


@torch.no_grad()
def fit_response(model: Jepa, features: TickFeatures) -> None:
    """Fit the response of ``model`` to training ticks, before anything is trained by steps.

    What it is fitted to is what the untrained readout leaves over. A horizon that no stretch of the
    recording reaches keeps a response of 0.
    """
    horizons = model.config.horizons_ticks
    ticks_N = np.array(features.ticks, np.int64)
    readings_NR = torch.from_numpy(features.readings_NR)
    setpoints_NU = torch.from_numpy(held(features.setpoints_NU))
    # Each set-point until the end of its stretch, as a window's plan has it.
    ends = np.append(np.flatnonzero(np.diff(ticks_N) != 1), len(ticks_N) - 1)
    end_N = ends[np.searchsorted(ends, np.arange(len(ticks_N)))]
    ahead_NH = np.minimum(np.arange(len(ticks_N))[:, None] + np.array(horizons), end_N[:, None])
    now_NR = readings_NR.nan_to_num()
    kept_HR = torch.sigmoid(model.readout.keep)
    for column, horizon in enumerate(horizons):
        at = np.flatnonzero(np.arange(len(ticks_N)) + horizon <= end_N)
        at = at[:: max(1, -(-len(at) // MAX_TICKS))]
        if len(at):
            told_NHF = model.response.features(
                now_NR[None, at], setpoints_NU[None, at], setpoints_NU[None, ahead_NH[at]]
            )[0]
            left_NR = readings_NR[at + horizon] - kept_HR[column] * now_NR[at]
            model.response.fit(column, told_NHF[:, column], left_NR)
