"""A forecaster for a trained model: embeddings of every row, then the fits on seen and unseen rows.

Shapes: R rows of a recording, S rows of a tick, N windows, T ticks and L = T S rows of lookback,
K ticks and H = K S rows ahead, G tags, D embedding, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.features import extract
from fusion.plant import Plant
from fusion.scoring.bands import fit_bands
from fusion.scoring.embedding_forecast import features_of, fit_embedding_forecast
from fusion.scoring.forecaster import Forecaster
from fusion.scoring.linear_forecast import fit_linear_forecast
from fusion.training.loop import Trained

Floats = NDArray[np.floating]
Ticks = Callable[[Floats], list[Observation]]
BATCH = 512
MAX_WINDOWS = 3000
"""Neighbouring windows say the same: more of them cost time and tell nothing."""


class EmbeddedRows:
    """A recording whose every row ends a tick: rows, and the embedding of the tick it ends."""

    def __init__(
        self, rows_RG: Floats, trained: Trained, plant: Plant, ticks_of: Ticks, rows_per_tick: int
    ) -> None:
        self.rows_RG, self.rows_per_tick = rows_RG, rows_per_tick
        self._trained = trained
        self._z_RD = self._encode(plant, ticks_of)

    @property
    def lookback_rows(self) -> int:
        """L, the rows of the model's window."""
        return self._trained.recipe.model.window_ticks * self.rows_per_tick

    def past(self, origins_N: NDArray[np.int64]) -> Floats:
        """Return the rows before each origin, [N, L, G]."""
        return self.rows_RG[origins_N[:, None] + np.arange(-self.lookback_rows, 0)]

    def future(self, origins_N: NDArray[np.int64], horizon_rows: int) -> Floats:
        """Return the rows from each origin on, [N, H, G]; NaN after the end."""
        at_NH = origins_N[:, None] + np.arange(horizon_rows)
        rows = self.rows_RG[np.minimum(at_NH, len(self.rows_RG) - 1)]
        return np.where((at_NH < len(self.rows_RG))[..., None], rows, np.nan)

    @torch.no_grad()
    def features(self, origins_N: NDArray[np.int64], num_ticks_ahead: int) -> Floats:
        """Return what the model expects of each tick ahead, [N, K, F]."""
        model, config = self._trained.model, self._trained.recipe.model
        back_T = self.rows_per_tick * np.arange(config.window_ticks)[::-1]
        ahead = tuple(range(1, num_ticks_ahead + 1))
        found: list[Floats] = []
        for begin in range(0, len(origins_N), BATCH):
            ends_N = origins_N[begin : begin + BATCH] - 1
            z_NTD = torch.from_numpy(self._z_RD[ends_N[:, None] - back_T])
            held = torch.zeros(*z_NTD.shape[:2], model.layout.num_setpoints)
            z_ahead = model.predictor.ahead(z_NTD, held, ahead)
            found.append(features_of(z_NTD[:, -1].numpy(), z_ahead.numpy()))
        return np.concatenate(found)

    @torch.no_grad()
    def _encode(self, plant: Plant, ticks_of: Ticks) -> NDArray[np.float32]:
        """Return the embedding of the tick that each row ends, [R, D]; NaN before the first."""
        model = self._trained.model.eval()
        size, step = self._trained.recipe.model.embedding, self.rows_per_tick
        z_RD = np.full((len(self.rows_RG), size), np.nan, np.float32)
        for phase in range(step):
            features = extract(ticks_of(self.rows_RG[phase:]), plant, self._trained.normaliser)
            inputs = {name: torch.from_numpy(x) for name, x in features.inputs.items()}
            encoded = model.encoder(inputs, torch.from_numpy(features.presence_NM))
            z_RD[phase + step - 1 :: step][: len(features)] = encoded.z_BD.numpy()
        return z_RD


def fit_forecaster(
    recording: EmbeddedRows, *, seen_rows: int, unseen_rows: int, num_ticks_ahead: int
) -> Forecaster:
    """Return the forecaster fitted on the first ``seen_rows``, chosen on the ``unseen_rows`` after.

    Forecasts of the unseen part may look back into the seen part, none looks ahead of its end.
    """
    lookback, step = recording.lookback_rows, recording.rows_per_tick
    horizon, end = num_ticks_ahead * step, seen_rows + unseen_rows
    rows = recording.rows_RG[:end]
    base = fit_linear_forecast(
        [rows[:seen_rows]],
        [rows[seen_rows - lookback :]],
        lookback_rows=lookback,
        horizon_rows=horizon,
        level_rows=step,
    )
    seen_N = _thinned(lookback + step, seen_rows - horizon)
    unseen_N = _thinned(seen_rows, end - horizon)
    missed = [
        recording.future(origins, horizon) - base.forecast(recording.past(origins))
        for origins in (seen_N, unseen_N)
    ]
    embedding = fit_embedding_forecast(
        recording.features(seen_N, num_ticks_ahead),
        missed[0],
        unseen_features := recording.features(unseen_N, num_ticks_ahead),
        missed[1],
    )
    left = missed[1] - embedding.correction(unseen_features)
    return Forecaster(base, embedding, fit_bands(left))


def _thinned(begin: int, end: int) -> NDArray[np.int64]:
    """Return origins evenly from ``begin`` up to and with ``end``, at most ``MAX_WINDOWS``."""
    stride = -(-(end - begin + 1) // MAX_WINDOWS)
    return np.arange(begin, end + 1, stride)
