"""A reconstruction autoencoder of the product's size: the same senses, the other objective.

It has the encoder of the product (stems, fusion, the state embedding as its bottleneck) and a
decoder to all readings of the same tick, as wide as makes both models equal in parameters. It sees
as many ticks in as many steps. What it cannot reconstruct is watched by a chart with the product's
calibration.

Shapes: B ticks, N ticks of a recording, M streams, D bottleneck, R readings, V readings of one
stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion.alignment import Observation
from fusion.evaluation.error_chart import ErrorChart, fit_error_chart
from fusion.features import Layout, Normaliser, TickFeatures, extract, fit_normaliser, layout_of
from fusion.model import Jepa, ModelConfig
from fusion.model.encoder import Encoder
from fusion.plant import Plant
from fusion.training import Recipe, StepReport, split
from fusion.training.descent import Descent
from fusion.training.windows import Windows

TICKS_AT_ONCE = 256


class Autoencoder(nn.Module):
    """Senses of one tick to the state embedding, and from it to the readings of that tick."""

    def __init__(self, layout: Layout, config: ModelConfig, *, num_parameters: int) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config)
        # Their own embeddings of the streams are for predictions only.
        self.encoder.to_p = nn.ModuleDict()
        size, num_readings = config.embedding, layout.num_readings
        hidden = hidden_width(
            num_parameters - num_weights(self.encoder), inputs=size, outputs=num_readings
        )
        self.decoder = nn.Sequential(
            nn.Linear(size, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, num_readings),
        )

    def forward(self, inputs: Mapping[str, Tensor], presence_BM: Tensor) -> Tensor:
        """Return the readings [B, R], standardised, as far as the bottleneck knows them."""
        tokens = self.encoder.tokens(inputs)
        return self.decoder(self.encoder.fuse(tokens, presence_BM))


@dataclass(frozen=True, slots=True)
class WatchingAutoencoder:
    """A trained autoencoder and the chart of its errors."""

    model: Autoencoder
    plant: Plant
    normaliser: Normaliser
    chart: ErrorChart

    def surprise(self, observations: Sequence[Observation]) -> NDArray[np.float64]:
        """Return the surprise of each tick, [N]; 1 is the threshold of the plant's budget."""
        return self.chart.surprise(_errors(self.model, observations, self.plant, self.normaliser))


def learn_autoencoder(
    observations: Sequence[Observation],
    plant: Plant,
    recipe: Recipe,
    *,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> WatchingAutoencoder:
    """Return an autoencoder of a normal run: the newest part of it only tells what is rare.

    Raises:
        RecipeError: The run is too short.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    seen, _ = split(observations, recipe)
    normaliser, layout = fit_normaliser(seen, plant), layout_of(plant)
    alike = num_weights(Jepa(layout, recipe.model))
    model = Autoencoder(layout, recipe.model, num_parameters=alike)
    _train(model, extract(seen, plant, normaliser), recipe, on_step)
    errors = _errors(model, observations, plant, normaliser)
    chart = fit_error_chart(errors, plant, num_learned=len(seen))
    return WatchingAutoencoder(model, plant, normaliser, chart)


def num_weights(model: nn.Module) -> int:
    """Return how many parameters a model has."""
    return sum(weights.numel() for weights in model.parameters())


def hidden_width(num_parameters: int, *, inputs: int, outputs: int) -> int:
    """Return how wide two hidden layers are that leave a decoder ``num_parameters`` in all.

    Example:
        >>> hidden_width(10 * 4 + 4 + 4 * 4 + 4 + 4 * 5 + 5, inputs=10, outputs=5)
        4
    """
    linear = inputs + outputs + 2
    square = linear**2 + 4 * (num_parameters - outputs)
    return max(1, round((math.sqrt(max(0, square)) - linear) / 2))


def _train(
    model: Autoencoder,
    features: TickFeatures,
    recipe: Recipe,
    on_step: Callable[[StepReport], None],
) -> None:
    """Minimise the error of the readings, over the windows that the product would draw."""
    windows, draw = Windows(features, recipe.model), np.random.default_rng(recipe.seed)
    descent = Descent(model, recipe)
    for step in range(recipe.steps):
        batch = windows.batch(draw.integers(0, len(windows), recipe.batch_windows))
        inputs = {name: values.flatten(0, 1) for name, values in batch.inputs.items()}
        wanted = batch.readings_BLR.flatten(0, 1)
        told = model(inputs, batch.presence_BLM.flatten(0, 1))
        is_known = ~wanted.isnan()
        loss = ((told - wanted.nan_to_num()) ** 2)[is_known].mean()
        descent.step(step, loss)
        on_step(StepReport(step + 1, recipe.steps, {"total": loss.item()}, None))


def _errors(
    model: Autoencoder, observations: Sequence[Observation], plant: Plant, normaliser: Normaliser
) -> dict[str, NDArray[np.float64]]:
    """Return the readings of each stream less their reconstruction, [N, V]; NaN where unknown."""
    parts = np.concatenate([*_residuals(model.eval(), observations, plant, normaliser)])
    layout = layout_of(plant)
    return {stream.name: parts[:, layout.columns(stream.name)] for stream in layout.streams}


@torch.no_grad()
def _residuals(
    model: Autoencoder, observations: Sequence[Observation], plant: Plant, normaliser: Normaliser
) -> Iterator[NDArray[np.float64]]:
    for begin in range(0, len(observations), TICKS_AT_ONCE):
        features = extract(observations[begin : begin + TICKS_AT_ONCE], plant, normaliser)
        inputs = {name: torch.from_numpy(values) for name, values in features.inputs.items()}
        told_NR = model(inputs, torch.from_numpy(features.presence_NM)).numpy()
        yield features.readings_NR.astype(np.float64) - told_NR
