"""What each step of a retraining comes to, and what a step is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from flows.retraining_run import Asked, RunFolder
from flows.settings import Settings
from fusion.plant import Plant
from fusion.retraining.incidents import Examination
from fusion.retraining.labels import Precision
from fusion.retraining.quality import QualityReport
from fusion.training import StepReport

WHO = "retrain flow"
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ingested(_Result):
    """The lake as the run reads it."""

    num_stored: int
    data_version: str


class Validated(_Result):
    """How the data is divided, and whether it is fit to learn from."""

    report: QualityReport
    train: tuple[tuple[int, int], ...]
    """Half-open ranges of ticks."""
    examination: Examination
    """As it was frozen."""
    examination_file: str
    champion: str | None
    as_judged: Examination | None = None
    """The same with what operators have said of its alarms until now: what is asked of models.
    None in the results of earlier releases, which are still read."""
    verdicts: tuple[Precision, ...] = ()
    """What operators said of the alarms since the champion's own data."""

    @property
    def ranges(self) -> tuple[range, ...]:
        """The ticks to learn from."""
        return tuple(range(*each) for each in self.train)


class TrainedModel(_Result):
    """The candidate, where no live process looks for it."""

    folder: str
    num_train_ticks: int
    num_calibration_ticks: int
    gauges: dict[str, float]
    run_id: str | None


class Exported(_Result):
    """The version where live processes find it, and how well its runtimes agree with it."""

    folder: str
    deviations: dict[str, float]
    in_triton: bool


class RolledOut(_Result):
    """What the version does now."""

    stage: str
    told: str


@dataclass(frozen=True, slots=True)
class Retraining:
    """One run: what was asked, what is done, where everything is, and who watches."""

    run: RunFolder
    asked: Asked
    plant: Plant
    settings: Settings
    say: Callable[[str], None] = lambda _: None
    on_step: Callable[[StepReport], None] = lambda _: None

    @property
    def candidate(self) -> Path:
        """Where the model is until it may serve."""
        return self.run.path / "candidate" / self.asked.version

    @property
    def evaluation_dir(self) -> Path:
        """Where page, plot and figures of the evaluation are."""
        return self.run.path / "evaluation"

    def result(self, step: str, kind: type[_Kind]) -> _Kind:
        """Return what an earlier step came to."""
        kept = self.run.kept(step, kind)
        assert kept is not None, "steps come in order"
        return kept
