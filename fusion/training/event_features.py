"""What a small head sees of a recording: running means of what frozen embeddings expect, and age.

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
from fusion.scoring.running_means import RunningMeans
from fusion.training.loop import Trained

Floats = NDArray[np.floating]


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
    """Return running means at each span and the logarithm of the ticks seen, [N, 3 X + 1].

    The ticks seen tell the age of an engine that is new at the first; a plant that is recorded
    from some day on has none, and its head does without (``flows/feedback.py``).

    Example:
        >>> running_features(np.array([[1.0], [1.0], [4.0]])).shape
        (3, 4)
    """
    means = RunningMeans()
    age_N1 = np.log1p(np.arange(len(values_NX), dtype=np.float64))[:, None]
    return np.concatenate([np.stack([means.step(each) for each in values_NX]), age_N1], axis=1)
