"""Model versions where training runs are kept: files, the gate's word, and who serves.

The journal of a plant's versions is the truth; the aliases ``champion`` and ``challenger`` of the
registry follow it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from flows import wiring
from flows.retraining_evaluation import Evaluated
from flows.retraining_run import Asked, RunFolder, text_hash
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.plant import Plant
from fusion.ports import RegisteredModel, TrackedRun, Tracking
from fusion.retraining.gate import Decision
from fusion.retraining.incidents import Examination
from fusion.rollout.states import Rollout

MODEL_FOLDER, EVALUATION_FOLDER, ASKED_FOLDER = "model", "evaluation", "asked"
PLANT_FILE = "plant.yaml"


@dataclass(frozen=True, slots=True)
class Registration:
    """One version on its way into the registry; nowhere where no runs are kept."""

    tracking: Tracking | None
    plant: Plant
    asked: Asked

    def judged(
        self, decision: Decision, evaluated: Evaluated, run: RunFolder, examination: Examination
    ) -> None:
        """Keep the evaluation, the decision and the plant file with the run of the training.

        Raises:
            TrackingUnavailableError: Call again.
        """
        if self.tracking is None:
            return
        kept = self._run(self.tracking)
        kept.attach(evaluated.paths(run.path / "evaluation"), folder=EVALUATION_FOLDER)
        with tempfile.TemporaryDirectory() as folder:
            plant_file = Path(folder) / PLANT_FILE
            plant_file.write_text(self.asked.plant_text, encoding="utf-8")
            kept.attach([plant_file], folder=ASKED_FOLDER)
        kept.log([{"step": 0, **_metrics(evaluated, self.asked.version)}])
        kept.tag(
            {
                "gate": decision.why,
                "reason": self.asked.reason,
                "retraining": run.name,
                "examination": examination.name,
                "plant_file": self.asked.plant_file,
                "plant_file_sha256": text_hash(self.asked.plant_text),
            }
        )
        kept.finish(model_version=self.asked.version)

    def published(self, model_dir: Path) -> None:
        """Enter the version in the registry, with its networks and manifest.

        Raises:
            TrackingUnavailableError: Call again.
        """
        if self.tracking is None:
            return
        kept = self._run(self.tracking)
        kept.attach(sorted(model_dir.iterdir()), folder=MODEL_FOLDER)
        kept.finish(model_version=self.asked.version)
        name, version = self.plant.prefix, self.asked.version
        self.tracking.register(name, version, run_id=kept.run_id, folder=MODEL_FOLDER)

    def _run(self, tracking: Tracking) -> TrackedRun:
        key = f"{self.plant.prefix}/{self.asked.version}"
        return tracking.start(
            experiment=self.plant.prefix, name=self.asked.version, params={}, key=key
        )


def register(settings: Settings, plant: Plant, asked: Asked) -> Registration:
    """Return what enters the version that ``asked`` makes."""
    return Registration(wiring.open_tracking(settings), plant, asked)


def follow_journal(settings: Settings, plant: Plant) -> Rollout:
    """Let the registry's aliases name the versions that the journal does; return its state.

    Raises:
        TrackingUnavailableError: They may still name others; call again.
    """
    state = journal_of(settings, plant).state()
    tracking = wiring.open_tracking(settings) if is_kept(settings) else None
    if tracking is not None:
        aliases = {"champion": state.champion, "challenger": state.challenger}
        tracking.point(plant.prefix, aliases)
    return state


def is_kept(settings: Settings) -> bool:
    """Whether runs are kept anywhere yet: asking must not make an empty database."""
    return bool(settings.mlflow_uri) or (settings.data_dir / "mlflow.sqlite").exists()


def where_from(settings: Settings, plant: Plant, version: str) -> RegisteredModel | None:
    """Return the run that made ``version``; None where no runs are kept, or none made it there.

    Raises:
        TrackingUnavailableError: It did not answer.
    """
    tracking = wiring.open_tracking(settings) if is_kept(settings) else None
    return None if tracking is None else tracking.registered(plant.prefix, version)


def _metrics(evaluated: Evaluated, version: str) -> dict[str, float]:
    figures = evaluated.measured(version)
    return {f"examination.{name}": value for name, value in figures.items()}
