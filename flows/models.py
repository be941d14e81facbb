"""Where model versions lie: one folder a version, named so that the newest sorts last."""

from __future__ import annotations

from pathlib import Path

from flows.settings import Settings
from fusion.errors import InputError
from fusion.manifest import MANIFEST_FILE
from fusion.plant import Plant


def models_of(settings: Settings, plant: Plant) -> list[Path]:
    """Return the complete model versions of ``plant``, oldest first."""
    folder = settings.models_dir / plant.prefix
    found = (path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
    # What is being written has a name that begins with a dot: nobody may take it for a version.
    return sorted(each for each in found if not each.name.startswith("."))


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
