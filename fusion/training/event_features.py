"""What a small head sees of a recording: running means of frozen embeddings and what follows.

A single tick is noisy and a window of 24 is short beside wear; running means at several time
constants hold the whole past in a vector of fixed size, as the scores' accumulated members do.

Shapes: N ticks of one recording, X values of a tick, D embedding, T ticks of a window, H horizons,
F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.features import extract, held
from fusion.plant import Plant
from fusion.training.loop import Trained

Floats = NDArray[np.floating]
SPANS_TICKS = (4, 16, 64)


@torch.no_grad()
def event_features(observations: Sequence[Observation], trained: Trained, plant: Plant) -> Floats:
    """Return the features of every tick of one recording without a gap, [N, F].

    The embeddings that the predictor expects are averaged over the recipe's horizons: what the
    plant is heading for, without a tick's noise. Of these come running means at each span, and the
    logarithm of the ticks seen. Before a whole window has passed, the first tick stands for those
    that were not seen.
    """
    features = extract(observations, plant, trained.normaliser)
    model, config = trained.model.eval(), trained.recipe.model
    inputs = {name: torch.from_numpy(x) for name, x in features.inputs.items()}
    z_ND = model.encoder(inputs, torch.from_numpy(features.presence_NM)).z_BD
    back_T = np.arange(config.window_ticks)[::-1]
    at_NT = np.maximum(np.arange(len(z_ND))[:, None] - back_T, 0)
    setpoints_NU = torch.from_numpy(held(features.setpoints_NU))
    ahead_NHD = model.predictor.ahead(z_ND[at_NT], setpoints_NU[at_NT], config.horizons_ticks)
    return running_features(ahead_NHD.mean(dim=1).numpy())


def raw_features(observations: Sequence[Observation], trained: Trained, plant: Plant) -> Floats:
    """Return the same of the standardised readings instead of embeddings: the baseline."""
    readings_NR = extract(observations, plant, trained.normaliser).readings_NR
    return running_features(np.nan_to_num(readings_NR))


def running_features(values_NX: NDArray[np.floating]) -> Floats:
    """Return running means at each span and the logarithm of the ticks seen, [N, 3 X + 1]."""
    values_NX = values_NX.astype(np.float64)
    age_N1 = np.log1p(np.arange(len(values_NX), dtype=np.float64))[:, None]
    return np.concatenate(
        [*(running_mean(values_NX, span) for span in SPANS_TICKS), age_N1], axis=1
    )


def running_mean(values_NX: Floats, span_ticks: int) -> Floats:
    """Return the exponentially weighted mean of all ticks up to each one, [N, X].

    Weights sum to 1 from the first tick on, so a short past is averaged, not drawn towards 0.

    Example:
        >>> running_mean(np.array([[1.0], [1.0], [4.0]]), span_ticks=1).ravel().tolist()
        [1.0, 1.0, 4.0]
        >>> running_mean(np.array([[1.0], [3.0]]), span_ticks=3).ravel().round(2).tolist()
        [1.0, 2.33]
    """
    new = 2 / (span_ticks + 1)
    mean_NX = np.empty_like(values_NX)
    total, weight = np.zeros(values_NX.shape[1]), 0.0
    for index, values in enumerate(values_NX):
        total, weight = (1 - new) * total + new * values, (1 - new) * weight + new
        mean_NX[index] = total / weight
    return mean_NX
