"""Where model versions lie: one folder a version, named so that the newest sorts last."""

from __future__ import annotations

from pathlib import Path

from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant


def models_of(settings: Settings, plant: Plant) -> list[Path]:
    """Return the complete model versions of ``plant``, oldest first."""
    folder = settings.models_dir / plant.prefix
    return sorted(path.parent for path in folder.glob("*/manifest.json"))


def newest_model(settings: Settings, plant: Plant) -> Path:
    """Return the newest model version of ``plant``.

    Raises:
        InputError: There is none yet.
    """
    versions = models_of(settings, plant)
    if not versions:
        raise InputError(
            f"a model of {plant.prefix!r} must exist to watch the plant, and "
            f"{settings.models_dir / plant.prefix} holds none; `fusion ingest`, then `fusion train`"
        )
    return versions[-1]


def model_folder(settings: Settings, plant: Plant, version: str) -> Path | None:
    """Return the folder of one version of ``plant``; None where it is no longer there."""
    return next((each for each in models_of(settings, plant) if each.name == version), None)
