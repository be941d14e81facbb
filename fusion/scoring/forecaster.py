"""Forecasts of every tag's rows ahead: linear base, correction by the embedding, honest bands.

Shapes: N windows, L rows of lookback, H rows ahead, G tags, K ticks ahead, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.scoring.embedding_forecast import EmbeddingForecast
from fusion.scoring.linear_forecast import LinearForecast

Floats = NDArray[np.floating]
FILE = "forecast_bands.safetensors"


@dataclass(frozen=True, slots=True)
class Forecaster:
    """What a model version forecasts with; everything is standardised."""

    base: LinearForecast
    embedding: EmbeddingForecast
    bands_2HG: Floats
    """The 90 % band around the forecast; :class:`FollowingBands` starts from it."""

    def forecast(self, past_NLG: Floats, features_NKF: Floats) -> Floats:
        """Return the middle of the forecast, [N, H, G]."""
        return self.base.forecast(past_NLG) + self.embedding.correction(features_NKF)

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        self.base.save(folder)
        self.embedding.save(folder)
        save_file({"bands": np.ascontiguousarray(self.bands_2HG)}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Forecaster:
        """Return the forecaster of the model version in ``folder``.

        Raises:
            InputError: It has none.
        """
        base, embedding = LinearForecast.load(folder), EmbeddingForecast.load(folder)
        return cls(base, embedding, load_file(folder / FILE)["bands"])
