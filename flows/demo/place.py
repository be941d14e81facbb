"""A demo's own folder and plant: repeatable, and never in the way of real data.

Every run gets a topic prefix of its own, so that a broker that keeps its records (Apache Kafka)
does not mix two runs.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant

MARK = ".made-by-fusion-demo"


@dataclass(frozen=True, slots=True)
class DemoPlace:
    """Where one demo run keeps its things."""

    folder: Path
    plant: Plant
    plant_file: Path
    settings: Settings

    @property
    def truth_file(self) -> Path:
        """The injected faults."""
        return self.folder / "truth.json"

    @property
    def report_file(self) -> Path:
        """The page that the demo ends with."""
        return self.folder / "report.html"


def make_place(plant_file: Path, folder: Path, *, run: str) -> DemoPlace:
    """Return an empty place for a run named ``run``; an older demo in ``folder`` is removed.

    Raises:
        InputError: ``folder`` holds something that no demo has made.
    """
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise InputError(
                f"a demo needs an empty folder or one of an earlier demo, and {folder} is neither; "
                "give another with --out"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    original = load_plant(plant_file)
    plant = original.model_copy(update={"prefix": f"{original.prefix}-{run}"})
    own_file = folder / "plant.yaml"
    own_file.write_text(yaml.safe_dump(plant.model_dump(mode="json"), sort_keys=False))
    settings = Settings.load().model_copy(update={"data_dir": folder})
    return DemoPlace(folder, load_plant(own_file), own_file, settings)
