"""What became of a plant's models, read from what every part wrote down while it did it.

Checks for drift and the retrainings that answered them (``drift.jsonl``), each retraining's folder,
the journal of versions, and the published scores: nothing here is kept for the sake of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.drift_journal import drift_history
from flows.operate import scores
from flows.retraining import STEPS
from flows.retraining_results import Validated
from flows.retraining_run import Ended, RunFolder, runs_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.records import DriftHistory
from fusion.rollout.states import Entry
from fusion.schema import Score


@dataclass(frozen=True, slots=True)
class StepTold:
    """One step of a retraining that was done; the machine's time, in seconds."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class RunTold:
    """One retraining, as its folder tells it."""

    version: str
    reason: str
    begin_s: float
    steps: tuple[StepTold, ...]
    end: Ended | None
    learned: tuple[range, ...]
    """Ticks; empty until they were chosen."""
    examined: range


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that was written down, oldest first."""

    plant: Plant
    scores: Sequence[Score]
    drift: DriftHistory
    runs: tuple[RunTold, ...]
    rollout: tuple[Entry, ...]

    @property
    def versions(self) -> list[str]:
        """The versions that were made or served, in the order of their appearance."""
        made = [each.version for each in self.runs]
        served = [each.version for each in self.rollout]
        return list(dict.fromkeys([*sorted({*made, *served}, key=(made + served).index)]))


def timeline_of(plant: Plant, settings: Settings, *, last: int = 10) -> Timeline:
    """Return what is known of the ``last`` retrainings of ``plant``, and of all since the first.

    Raises:
        InputError: There was none.
        BrokerUnavailableError: Call again.
    """
    runs = tuple(told_of(each) for each in runs_of(settings, plant)[-last:])
    if not runs:
        raise InputError(
            f"a timeline needs a retraining of {plant.prefix}, and there was none; "
            "`fusion flows run retrain` makes one"
        )
    since_ns = runs[0].begin_s * NANOSECONDS
    history = drift_history(settings, plant)
    return Timeline(
        plant,
        scores(plant, settings),
        DriftHistory(
            [each for each in history.records if each.t_ns >= since_ns],
            [each for each in history.retrainings if each.t_ns >= since_ns],
        ),
        runs,
        tuple(e for e in journal_of(settings, plant).entries() if e.t_ns >= since_ns),
    )


def told_of(run: RunFolder) -> RunTold:
    """Return what the folder of a retraining tells; a step ended when its result was written."""
    asked, validated = run.asked(), run.kept("validate", Validated)
    begin_s = asked.t_begun_ns / NANOSECONDS
    steps: list[StepTold] = []
    for name in STEPS:
        path = run.path / f"{name}.json"
        if path.is_file():
            before_s = steps[-1].end_s if steps else begin_s
            steps.append(StepTold(name, before_s, max(before_s, path.stat().st_mtime)))
    return RunTold(
        version=asked.version,
        reason=asked.reason,
        begin_s=begin_s,
        steps=tuple(steps),
        end=run.end(),
        learned=() if validated is None else validated.ranges,
        examined=range(0) if validated is None else validated.examination.ticks,
    )
