"""The networks of a model in memory, as the port that everything else asks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.model.export import ENCODER, PREDICTOR, EncoderNetwork, PredictorNetwork
from fusion.model.jepa import Jepa


class TorchInference:
    """Implements :class:`fusion.ports.Inference` without an export: for measuring, not serving."""

    def __init__(self, model: Jepa) -> None:
        model.eval()
        self._encoder, self._predictor = EncoderNetwork(model), PredictorNetwork(model)
        self._encoder_inputs = [*model.encoder.names, "presence"]

    def infer(
        self, network: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of ``network``."""
        asked = {ENCODER: self._encoder, PREDICTOR: self._predictor}[network]
        names = self._encoder_inputs if network == ENCODER else PredictorNetwork.inputs
        with torch.no_grad():
            values = asked(*(torch.from_numpy(np.ascontiguousarray(inputs[n])) for n in names))
        return {name: v.numpy() for name, v in zip(asked.outputs, values, strict=True)}

    def close(self) -> None:
        """Nothing to free."""
