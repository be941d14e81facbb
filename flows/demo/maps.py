"""The maps of some ticks, drawn with what the model's calibration says of every cell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.report.heat import HeatMap
from fusion.alignment import Observation
from fusion.features import extract, layout_of
from fusion.plant import Plant
from fusion.scoring.localisation import FILE, Localisation
from fusion.training.package import load_normaliser


class Maps:
    """Maps by stream and tick. A model from before there were maps has none."""

    def __init__(self, plant: Plant, model_dir: Path) -> None:
        self._plant, self._layout = plant, layout_of(plant)
        self._localisation = Localisation({})
        if (model_dir / FILE).is_file():
            self._localisation = Localisation.load(model_dir)
            self._normaliser = load_normaliser(model_dir)
        self._drawn: dict[tuple[str, int], NDArray[np.float32]] = {}

    def draw(self, observation: Observation) -> None:
        """Draw the maps of one tick, and keep them."""
        if not self._localisation.scales:
            return
        features = extract([observation], self._plant, self._normaliser)
        for stream, rarity_NHW in self._localisation.maps(features, self._layout).items():
            if observation.is_present(stream):
                self._drawn[stream, observation.tick] = rarity_NHW[0]

    def beside(self, stream: str | None, ticks: Iterable[int]) -> HeatMap | None:
        """Return the maps of ``ticks`` one beside the other; None where none was drawn."""
        drawn = [self._drawn[stream, t] for t in ticks if stream and (stream, t) in self._drawn]
        if not drawn or stream is None:
            return None
        shown_from = self._localisation.scales[stream].shown_from.item()
        return HeatMap(np.concatenate(drawn, axis=1), shown_from)
