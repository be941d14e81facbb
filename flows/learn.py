"""Training from the lake: records → the live chain's own windows → model → calibration.

Importable without Prefect; ``flows/prefect_train.py`` adds retries and a place on a schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows import wiring
from flows.settings import Settings
from fusion.errors import RecipeError
from fusion.plant import Plant
from fusion.stream.intake import align_recorded
from fusion.training import Recipe, StepReport


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run made."""

    model_dir: Path
    data_version: str
    num_ticks: int
    gauges: dict[str, float]
