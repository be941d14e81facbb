"""Recipes: everything that a training run is free to choose, as one frozen record.

Its content goes into the manifest of the model that it made.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fusion.errors import RecipeError
from fusion.model import ModelConfig


class Recipe(BaseModel):
    """What to train and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: ModelConfig = ModelConfig()
    seed: int = 0
    steps: int = Field(default=400, ge=1)
    batch_windows: int = Field(default=32, ge=4)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=30, ge=1)
    held_out: float = Field(
        default=0.33, gt=0.05, lt=0.9, description="The newest part: gauges and calibration."
    )
    gauge_every: int = Field(default=50, ge=1)
    threads: int = Field(default=2, ge=1)
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="bfloat16: networks compute in it (autocast); weights, statistics of the "
        "batch, gauges, calibration and what is exported stay float32.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the loss (torch.compile): minutes at the start, faster steps on a "
        "GPU. Needs a C++ compiler.",
    )


def standard_recipe() -> Recipe:
    """Return the one recipe of every plant and benchmark; only ticks and channels differ."""
    return Recipe(name="standard")


def quick_recipe() -> Recipe:
    """Return a recipe for trying a chain out in seconds; its model is good for nothing else."""
    return Recipe(
        name="quick",
        model=ModelConfig(width=32, window_ticks=8, horizons_ticks=(1, 4, 16)),
        steps=30,
        batch_windows=16,
        gauge_every=15,
    )


RECIPES = {recipe().name: recipe for recipe in (standard_recipe, quick_recipe)}


def recipe_named(
    name: str, *, seed: int | None = None, steps: int | None = None, threads: int | None = None
) -> Recipe:
    """Return the recipe ``name``, with another seed, steps or threads where given.

    Raises:
        RecipeError: There is no such recipe.
    """
    if name not in RECIPES:
        raise RecipeError(f"a recipe must be one of {sorted(RECIPES)}, got {name!r}")
    changes = {"seed": seed, "steps": steps, "threads": threads}
    return RECIPES[name]().model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
