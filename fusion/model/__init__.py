"""The multimodal JEPA: encoder, predictor, losses, gauges, export."""

from fusion.model.config import QUANTILES, ModelConfig
from fusion.model.jepa import Batch, Jepa
from fusion.model.outputs import WindowOutputs

__all__ = ["QUANTILES", "Batch", "Jepa", "ModelConfig", "WindowOutputs"]
