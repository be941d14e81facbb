"""Versions of a model for tests: copies of a trained one, with a name of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from flows.settings import Settings
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.plant import Plant
from fusion.scoring.calibration import SCALARS_FILE


def add_version(
    settings: Settings, plant: Plant, name: str, made_of: Path, *, threshold: float = 1.0
) -> Path:
    """Put a version among the plant's: ``made_of`` with its alarm thresholds multiplied."""
    target = settings.models_dir / plant.prefix / name
    shutil.copytree(made_of, target)
    manifest = load_manifest(target).model_copy(update={"version": name, "name": plant.prefix})
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json())
    scalars = json.loads((target / SCALARS_FILE).read_text())
    for panel in scalars["panels"].values():
        panel["threshold"] *= threshold
    (target / SCALARS_FILE).write_text(json.dumps(scalars))
    return target


def once_each(ticks: list[int]) -> list[int]:
    """Return ``ticks`` when they follow one another without a hole or a repetition."""
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), "none lost, none scored twice"
    return ticks
