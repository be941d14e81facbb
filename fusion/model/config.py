"""The size and shape of a model: one frozen record, stored in its manifest."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

QUANTILES = (0.05, 0.5, 0.95)


class ModelConfig(BaseModel):
    """``width`` is the one dial for size; everything else has a default with a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=96, ge=32, le=1024, multiple_of=32)
    embedding: int = Field(default=64, description="D, size of the plant's state embedding")
    stream_embedding: int = Field(default=32, description="P, size of each stream's embedding")
    fusion_layers: int = Field(default=2, ge=1)
    predictor_layers: int = Field(default=2, ge=1)
    num_fusion_tokens: int = Field(default=2, ge=1)
    window_ticks: int = Field(default=24, ge=4, description="T, context of a prediction")
    horizons_ticks: tuple[int, ...] = Field(
        default=(1, 4, 16, 40, 120),
        description="Ascending. Those below window_ticks are scored; the rest only forecast.",
    )
    target: Literal["live", "stopgrad", "ema"] = "live"
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    regulariser: Literal["sigreg", "vicreg"] = "sigreg"

    @model_validator(mode="after")
    def _horizons_ascend(self) -> Self:
        horizons = self.horizons_ticks
        if not horizons or list(horizons) != sorted(set(horizons)) or horizons[0] < 1:
            raise ValueError(f"horizons_ticks must ascend from at least 1, got {horizons}")
        if horizons[0] >= self.window_ticks:
            raise ValueError(
                f"the first horizon must be below window_ticks {self.window_ticks}, got "
                f"{horizons[0]}; only such a prediction can be compared with what came"
            )
        return self

    @property
    def scored_horizons(self) -> tuple[int, ...]:
        """The horizons whose prediction for the newest tick lies in the window."""
        return tuple(h for h in self.horizons_ticks if h < self.window_ticks)

    @property
    def num_heads(self) -> int:
        """Attention heads of 32 dimensions each."""
        return self.width // 32
