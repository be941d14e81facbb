"""A retraining, step by step: the newest data, a new model, and whether it may serve.

ingest → validate → train → evaluate → gate → export → rollout. Each step's result is durable before
the next begins (:mod:`flows.retraining_run`): a run that is killed goes on with the step it was at.
Nothing is where a live process looks for models before the gate has let it pass, so whatever fails
leaves the champion serving. Importable without Prefect; ``flows/prefect_retrain.py`` adds retries
and a place on a schedule.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from flows import retraining_service, retraining_steps, wiring
from flows.drift_journal import drift_history
from flows.learn import code_version
from flows.retraining_data import champion_of
from flows.retraining_evaluation import Evaluated
from flows.retraining_results import (
    Exported,
    Ingested,
    Retraining,
    RolledOut,
    TrainedModel,
    Validated,
)
from flows.retraining_run import (
    Asked,
    Ended,
    Outcome,
    Policy,
    RunFolder,
    begin,
    one_at_a_time,
    version_name,
)
from flows.settings import Settings
from fusion.errors import CollapseError, ParityError, RecipeError
from fusion.plant import Plant
from fusion.retraining.gate import Decision
from fusion.training import StepReport, recipe_named

OF_THE_RUN = (CollapseError, RecipeError, ParityError)
"""What trying again would only repeat: the run keeps the data and the model that brought it about.
A setting, a key, a folder somebody mends, and the run goes on."""


@dataclass(frozen=True, slots=True)
class RetrainReport:
    """How a retraining ended, and where everything about it lies."""

    run_dir: Path
    version: str
    end: Ended


Perform = Callable[[Retraining, str], BaseModel]


def asked_for(
    plant_file: Path,
    *,
    reason: str,
    recipe: str,
    seed: int,
    steps: int | None = None,
    policy: Policy | None = None,
    processes: int = 1,
) -> Asked:
    """Return what a retraining that begins now is asked to do."""
    chosen, now_ns = recipe_named(recipe, seed=seed, steps=steps), wiring.open_clock().now_ns()
    if chosen.batch_windows % processes:
        raise RecipeError(
            f"batch_windows of the recipe ({chosen.batch_windows}) must be a multiple of the "
            f"processes, got {processes}; take another number"
        )
    return Asked(
        plant_file=str(plant_file),
        plant_text=plant_file.read_text(encoding="utf-8"),
        reason=reason,
        recipe=chosen,
        policy=policy or Policy(),
        processes=processes,
        code_version=code_version(),
        version=version_name(chosen, now_ns),
        t_begun_ns=now_ns,
    )


def retrain(
    asked: Asked,
    settings: Settings,
    *,
    perform: Perform | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> RetrainReport:
    """Do what is left of the run that ``asked`` describes, and return how it ended.

    ``perform`` does one step, :func:`perform_step` in the end.

    Raises:
        CollapseError, RecipeError, ParityError: What this run learned from, or made, is at fault:
            it is given up, and the same call begins anew.
        FusionError: Another failure of a step; the same call goes on from there.

    Whatever happens, the champion serves on.
    """
    plant, perform = asked.plant, perform or perform_step
    with one_at_a_time(settings, plant):
        run = begin(settings, asked, outdated=lambda run: why_outdated(run, settings, plant))
        retraining = Retraining(run, run.asked(), plant, settings, say, on_step)
        for step in STEPS:
            try:
                result = perform(retraining, step)
            except OF_THE_RUN as failed:
                _ended(retraining, Outcome.GIVEN_UP, step, f"{type(failed).__name__}: {failed}")
                raise
            why = refusal(result)
            if why is not None:
                return _ended(retraining, Outcome.REFUSED, step, why)
        stage = retraining.result("rollout", RolledOut)
        return _ended(retraining, Outcome.IN_SERVICE, "rollout", stage.told)


def why_outdated(run: RunFolder, settings: Settings, plant: Plant) -> str | None:
    """Return why a run that was cut off must not go on with what it was told; None if it may.

    It compares with the champion of its day, and learns from the data of its day: of no use beside
    another champion, and no answer to drift that was found after it had begun.
    """
    validated = run.kept("validate", Validated)
    champion = champion_of(settings, plant)
    # (Cut off in its last step, its own version may be the champion.)
    if validated is not None and champion not in {validated.champion, run.name}:
        return f"it was to be compared with {validated.champion}, and the champion is {champion}"
    history = drift_history(settings, plant)
    asked_for_by = {id_ for each in history.retrainings if each.is_open for id_ in each.answers}
    found_ns = [each.t_ns for each in history.records if each.id in asked_for_by]
    if found_ns and run.asked().t_begun_ns < max(found_ns):
        return "the drift that is to be answered was found after it had begun"
    return None


def perform_step(retraining: Retraining, step: str) -> BaseModel:
    """Return what ``step`` comes to: kept from before, or done now and kept."""
    kind, do = STEPS[step]
    kept = retraining.run.kept(step, kind)
    if kept is not None:
        retraining.say(f"{step} is done already")
        return kept
    result = do(retraining)
    retraining.run.keep(step, result)
    return result


def refusal(result: BaseModel) -> str | None:
    """Return why a run ends after a step; None where it goes on."""
    if isinstance(result, Validated) and not result.report.is_good:
        return result.report.told()
    if isinstance(result, Decision) and not result.is_passed:
        return result.why
    return None


def _ended(at: Retraining, outcome: Outcome, step: str, why: str) -> RetrainReport:
    end = Ended(outcome=outcome, step=step, why=why, t_ns=wiring.open_clock().now_ns())
    at.run.keep("end", end)
    shutil.rmtree(at.run.path / "checkpoint", ignore_errors=True)
    if outcome is Outcome.IN_SERVICE:
        shutil.rmtree(at.run.path / "candidate", ignore_errors=True)
    return RetrainReport(at.run.path, at.asked.version, end)


STEPS: Mapping[str, tuple[type[BaseModel], Callable[[Retraining], BaseModel]]] = {
    "ingest": (Ingested, retraining_steps.ingest),
    "validate": (Validated, retraining_steps.validate),
    "train": (TrainedModel, retraining_steps.train),
    "evaluate": (Evaluated, retraining_steps.evaluate),
    "gate": (Decision, retraining_steps.gate),
    "export": (Exported, retraining_service.export),
    "rollout": (RolledOut, retraining_service.rollout),
}
"""Every step in its order, with what it comes to."""
