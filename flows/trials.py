"""Trials of a recipe: the same data, other numbers; each is trained apart, and all are compared.

A trial is no candidate: it is compared by what training measured on its own held-out ticks, which
are the same for all, and lies where no live process looks. What wins is asked of a retraining,
whose gate decides. Importable without Prefect; ``flows/prefect_trials.py`` puts it on workers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flows import wiring
from flows.learn import Ordered, train_from_lake
from flows.plant_files import load_plant
from flows.retraining_data import held_ticks
from flows.retraining_run import examinations_of, write_durably
from flows.settings import Settings
from flows.training_memory import memory_finding
from fusion.errors import CollapseError, RecipeError
from fusion.plant import NANOSECONDS
from fusion.retraining.incidents import PeriodRecipe, minus, newest_ticks
from fusion.training import Recipe

END_OF_TIME = 2**62
MAX_TRAIN_S = PeriodRecipe().max_train_s
RESULT_FILE = "trial.json"
FIXED = {"name", "held_out"}
"""What all trials must share to be comparable."""


class TrialJob(BaseModel):
    """One trial, for a worker that may be another process."""

    model_config = ConfigDict(frozen=True)

    name: str
    plant_file: Path
    settings: Settings
    recipe: Recipe
    changes: dict[str, Any]
    data_version: str
    max_train_s: float
    """The newest ticks to learn from; none older, as in a retraining."""


class Trial(BaseModel):
    """What came of one trial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    changes: dict[str, Any]
    gauges: dict[str, float]
    """As training measured them last; empty where it stopped itself."""
    duration_s: float
    stopped: str = ""
    """Why there is no model."""

    def figure(self, gauge: str) -> float:
        """Return a gauge; less than any number where there is none."""
        return self.gauges.get(gauge, float("-inf"))


def jobs_of(
    plant_file: Path,
    recipe: Recipe,
    changes: Sequence[Mapping[str, Any]],
    settings: Settings,
    *,
    max_train_s: float = MAX_TRAIN_S,
) -> list[TrialJob]:
    """Return a job for each of ``changes`` that makes another recipe, all on the lake as it is now.

    Each learns from the newest ``max_train_s`` seconds.

    Raises:
        RecipeError: A change is none of the recipe's, or would make trials incomparable.
    """
    plant = load_plant(plant_file)
    data_version = wiring.open_lake(settings).version(plant.sense_topics)
    jobs: dict[str, TrialJob] = {}
    for each in changes:
        tried = changed(recipe, each)
        said = "\n".join(
            [data_version, plant.fingerprint(), tried.model_dump_json(), f"{max_train_s:g}"]
        )
        name = hashlib.sha256(said.encode()).hexdigest()[:12]
        # (Two of one name would write into one folder at once.)
        if name not in jobs:
            jobs[name] = TrialJob(
                name=name,
                plant_file=plant_file,
                settings=settings,
                recipe=tried,
                changes=dict(each),
                data_version=data_version,
                max_train_s=max_train_s,
            )
    return list(jobs.values())


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with ``changes``, whose field ``model`` may name some of the model's.

    Raises:
        RecipeError: A field is unknown or breaks a rule.

    Example:
        >>> changed(Recipe(name="mine"), {"steps": 3, "model": {"width": 32}}).model.width
        32
    """
    if clash := FIXED & changes.keys():
        raise RecipeError(
            f"trials must share {sorted(FIXED)} to be compared, got changes of {sorted(clash)}; "
            "leave them out"
        )
    told = recipe.model_dump()
    told |= dict(changes) | {"model": told["model"] | dict(changes.get("model", {}))}
    try:
        return Recipe.model_validate(told)
    except ValidationError as invalid:
        raise RecipeError(f"a trial's changes break rules: {invalid}; mend them") from invalid


def ticks_of(job: TrialJob) -> tuple[range, ...]:
    """Return what a trial learns from: the newest ticks, without what examinations hold."""
    plant, settings = load_plant(job.plant_file), job.settings
    held = held_ticks(plant, settings, job.data_version)
    if held is None:
        return ()
    examined = [each.ticks for each in examinations_of(settings, plant)]
    most = round(job.max_train_s / plant.tick_s)
    newest = newest_ticks(minus([held], examined), most)
    # (The lake's last records tell about where it ends: what comes behind is not cut off.)
    return minus([range(newest[0].start, END_OF_TIME)], examined) if newest else ()


def require_memory(jobs: Sequence[TrialJob], *, at_once: int) -> None:
    """Return when so many trials can learn at once on this machine.

    Raises:
        RecipeError: They would take more memory than there is; says how much, and what to set.
    """
    for job in jobs[:1]:  # (all learn from the same ticks)
        plant = load_plant(job.plant_file)
        held = held_ticks(plant, job.settings, job.data_version)
        stop = 0 if held is None else held.stop
        num_ticks = sum(len(range(each.start, min(each.stop, stop))) for each in ticks_of(job))
        told = memory_finding(plant, num_ticks, at_once=min(at_once, len(jobs)))
        if not told.is_met:
            raise RecipeError(f"trials must fit into memory: {told.sentence}, or fewer num_workers")


def run_trial(job: TrialJob) -> Trial:
    """Train one trial and return what was measured; one that was done before is not done again.

    What examinations hold is not learned from.

    Raises:
        LakeUnavailableError, ObjectStoreUnavailableError, TrackingUnavailableError: Call again.
    """
    plant, settings = load_plant(job.plant_file), job.settings
    folder = settings.retraining_dir / plant.prefix / "trials" / job.name
    if (folder / RESULT_FILE).is_file():
        return Trial.model_validate_json((folder / RESULT_FILE).read_bytes())
    clock = wiring.open_clock()
    began_ns = clock.monotonic_ns()
    gauges, stopped = dict[str, float](), ""
    shutil.rmtree(folder, ignore_errors=True)  # (a model that nobody had measured yet)
    ordered = Ordered(ticks_of(job), folder / "model", run_key=f"{plant.prefix}/trials/{job.name}")
    try:
        made = train_from_lake(
            wiring.open_lake(settings),
            plant,
            job.recipe,
            settings,
            data_version=job.data_version,
            ordered=ordered,
        )
        gauges = made.gauges
    except CollapseError as collapsed:
        stopped = str(collapsed)
    done = Trial(
        name=job.name,
        changes=job.changes,
        gauges=gauges,
        duration_s=(clock.monotonic_ns() - began_ns) / NANOSECONDS,
        stopped=stopped,
    )
    write_durably(folder / RESULT_FILE, done.model_dump_json(indent=1).encode())
    return done


def ranked(trials: Sequence[Trial], gauge: str) -> list[Trial]:
    """Return ``trials``, the best by ``gauge`` first.

    Raises:
        RecipeError: No trial has that gauge, though some have others; says which.
    """
    known = sorted({name for each in trials for name in each.gauges})
    if known and gauge not in known:
        raise RecipeError(f"trials are compared by one of {known}, got {gauge!r}")
    return sorted(trials, key=lambda each: each.figure(gauge), reverse=True)


def rows_of(trials: Sequence[Trial], gauge: str) -> list[dict[str, str]]:
    """Return a row for each trial, for people."""
    return [
        {
            "trial": each.name,
            "changes": json.dumps(each.changes),
            **{
                name: f"{each.gauges[name]:.3g}" if name in each.gauges else ""
                for name in dict.fromkeys((gauge, "rankme"))
            },
            "seconds": f"{each.duration_s:.0f}",
            "stopped": each.stopped,
        }
        for each in trials
    ]
