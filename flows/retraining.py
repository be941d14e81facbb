"""A retraining, step by step: the newest data, a new model, and whether it may serve.

ingest → validate → train → evaluate → gate → export → rollout. Each step's result is durable before
the next begins (:mod:`flows.retraining_run`): a run that is killed goes on with the step it was at.
Nothing is where a live process looks for models before the gate has let it pass, so whatever fails
leaves the champion serving. Importable without Prefect; ``flows/prefect_retrain.py`` adds retries
and a place on a schedule.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from flows import wiring
from flows.export import check_parity, export_to_triton
from flows.ingest import ingest_once
from flows.learn import Ordered, TrainReport, code_version, train_from_lake
from flows.registry import follow_journal, register
from flows.retraining_data import (
    champion_of,
    look_at_lake,
    mismatches_of,
    moving_tags,
    observations_in,
)
from flows.retraining_evaluation import Evaluated, evaluate_candidate
from flows.retraining_run import (
    Asked,
    Ended,
    Outcome,
    Policy,
    RunFolder,
    begin,
    examinations_of,
    freeze,
    one_at_a_time,
    version_name,
)
from flows.rollout import promote
from flows.rollout_journal import journal_of
from flows.settings import Settings
from flows.shared_training import train_in_processes
from fusion.errors import RecipeError
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.retraining.gate import Decision, decide
from fusion.retraining.incidents import Examination, Periods, divide
from fusion.retraining.quality import Finding, QualityReport, check_quality
from fusion.rollout.states import Action, Rollout
from fusion.training import StepReport, recipe_named
from fusion.training.package import new_folder

WHO = "retrain flow"
INGEST_GROUP = "ingest"
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
    examination_file: str
    champion: str | None

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

    def result(self, step: str, kind: type[_Kind]) -> _Kind:
        """Return what an earlier step came to."""
        kept = self.run.kept(step, kind)
        assert kept is not None, "steps come in order"
        return kept


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
        FusionError: A step failed; the champion serves on, and the same call goes on from there.
    """
    plant, perform = asked.plant, perform or perform_step
    with one_at_a_time(settings, plant):
        run = begin(settings, asked)
        retraining = Retraining(run, run.asked(), plant, settings, say, on_step)
        for step in STEPS:
            why = refusal(perform(retraining, step))
            if why is not None:
                return _ended(retraining, Outcome.REFUSED, step, why)
        stage = retraining.result("rollout", RolledOut)
        return _ended(retraining, Outcome.IN_SERVICE, "rollout", stage.told)


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


def _ingest(at: Retraining) -> Ingested:
    topics, num_stored = at.plant.sense_topics, 0
    there = wiring.topics_there(at.settings, topics)
    lake = wiring.open_lake(at.settings)
    if there:
        with contextlib.closing(wiring.open_source(at.settings, there, INGEST_GROUP)) as source:
            is_complete = False
            while not is_complete:
                report = ingest_once(source, lake, clock=wiring.open_clock())
                num_stored, is_complete = num_stored + report.num_stored, report.is_complete
    at.say(f"{num_stored} new records are in the lake")
    return Ingested(num_stored=num_stored, data_version=lake.version(topics))


def _validate(at: Retraining) -> Validated:
    policy, data_version = at.asked.policy, at.result("ingest", Ingested).data_version
    seen = look_at_lake(at.plant, at.settings, data_version)
    if seen.table.is_empty():
        raise RecipeError(
            f"retraining needs records of {list(at.plant.sense_topics)} in the lake, and it holds "
            "none; `fusion ingest` first"
        )
    periods = divide(
        seen.ticks,
        examinations_of(at.settings, at.plant),
        seen.incidents,
        policy.periods,
        at.plant,
        data_version,
    )
    champion = champion_of(at.settings, at.plant)
    report = check_quality(
        seen.table,
        periods.train,
        at.plant,
        policy.quality,
        incidents=seen.incidents,
        moving=moving_tags(at.settings, at.plant, champion),
        mismatches=mismatches_of(at.settings, at.plant, champion),
    )
    report = QualityReport(findings=(*report.findings, _room(at)))
    at.say(report.told())
    return Validated(
        report=report,
        train=tuple((each.start, each.stop) for each in periods.train),
        examination=periods.examination,
        examination_file=_frozen(at, periods, is_good=report.is_good),
        champion=champion,
    )


def _frozen(at: Retraining, periods: Periods, *, is_good: bool) -> str:
    """Write a new examination down; what belongs to unfit data is none."""
    if not is_good and periods.is_new:
        return ""
    return freeze(at.settings, at.plant, periods.examination).name


def _room(at: Retraining) -> Finding:
    state = journal_of(at.settings, at.plant).state()
    is_free = state.challenger in {None, at.asked.version}
    return Finding(
        rule="rollout",
        is_met=is_free,
        sentence=f"{state.told()}"
        + ("" if is_free else "; only one at a time proves itself: wait for it, or take it back"),
    )


def _train(at: Retraining) -> TrainedModel:
    validated, ingested = at.result("validate", Validated), at.result("ingest", Ingested)
    ordered = Ordered(validated.ranges, at.candidate, run_key=_key(at))
    if (at.candidate / "manifest.json").is_file():
        made = _finished(at, ordered)
    elif at.asked.processes > 1:
        made = train_in_processes(
            at.asked,
            at.settings,
            ordered,
            data_version=ingested.data_version,
            run_dir=at.run.path,
            say=at.say,
        )
    else:
        made = train_from_lake(
            wiring.open_lake(at.settings),
            at.plant,
            at.asked.recipe,
            at.settings,
            data_version=ingested.data_version,
            checkpoint_dir=at.run.path / "checkpoint",
            on_step=at.on_step,
            on_stage=at.say,
            ordered=ordered,
        )
    return TrainedModel(
        folder=str(made.model_dir),
        num_train_ticks=made.num_train_ticks,
        num_calibration_ticks=made.num_calibration_ticks,
        gauges={name: value for name, value in made.gauges.items() if math.isfinite(value)},
        run_id=made.run_id,
    )


def _finished(at: Retraining, ordered: Ordered) -> TrainReport:
    """Return what a training made that was killed after its model was whole."""
    manifest, run_id = load_manifest(at.candidate), None
    tracking = wiring.open_tracking(at.settings)
    if tracking is not None:
        kept = tracking.start(
            experiment=at.plant.prefix, name=at.asked.version, params={}, key=ordered.run_key
        )
        kept.finish(model_version=at.asked.version)
        run_id = kept.run_id
    return TrainReport(
        at.candidate,
        manifest.data_version,
        manifest.num_train_ticks,
        manifest.num_calibration_ticks,
        dict(manifest.gauges[-1]),
        run_id,
    )


def _evaluate(at: Retraining) -> Evaluated:
    validated = at.result("validate", Validated)
    examination, version = validated.examination, at.asked.version
    models = {version: at.candidate}
    if validated.champion is not None:
        models[validated.champion] = at.settings.models_dir / at.plant.prefix / validated.champion
    telemetry = at.plant.model_copy(update={"streams": at.plant.telemetry_streams})
    learned = (
        observations_in(
            telemetry,
            at.settings,
            at.result("ingest", Ingested).data_version,
            list(validated.ranges),
        )
        if at.plant.telemetry_streams
        else []
    )
    return evaluate_candidate(
        at.plant,
        at.settings,
        models,
        examination,
        learned=learned,
        held_out=at.asked.recipe.held_out,
        folder=at.run.path / "evaluation",
        say=at.say,
    )


def _gate(at: Retraining) -> Decision:
    validated, evaluated = at.result("validate", Validated), at.result("evaluate", Evaluated)
    champion = validated.champion
    decision = decide(
        evaluated.measured(at.asked.version),
        None if champion is None else evaluated.measured(champion),
        evaluated.measured("baseline"),
        at.asked.policy.gate,
    )
    at.say(decision.why)
    register(at.settings, at.plant, at.asked).judged(
        decision, evaluated, at.run, validated.examination
    )
    return decision


def _export(at: Retraining) -> Exported:
    target = at.settings.models_dir / at.plant.prefix / at.asked.version
    _adopt(at)
    deviations = check_parity(at.candidate) if at.candidate.exists() else check_parity(target)
    if not target.exists():
        with new_folder(target) as folder:
            shutil.copytree(at.candidate, folder, dirs_exist_ok=True)
    in_triton = at.settings.inference == "triton"
    if in_triton:
        export_to_triton(
            target,
            at.settings.triton_repository_dir,
            backend=at.settings.triton_backend,
            batching=wiring.Batching(),
        )
    register(at.settings, at.plant, at.asked).published(target)
    largest = {network: max(d.largest for d in each) for network, each in deviations.items()}
    return Exported(folder=str(target), deviations=largest, in_triton=in_triton)


def _adopt(at: Retraining) -> None:
    """Write down who is the champion, where nobody has.

    A live process without one takes the newest version there is, and a newer one that has not
    proved itself is about to lie there.
    """
    champion = at.result("validate", Validated).champion
    if champion is None or journal_of(at.settings, at.plant).state().champion is not None:
        return
    why = "it was the newest version when the first retraining began, and so in service"
    promote(at.settings, [at.plant], champion, who=WHO, why=why)


def _rollout(at: Retraining) -> RolledOut:
    version, decision = at.asked.version, at.result("gate", Decision)
    state = journal_of(at.settings, at.plant).state()
    if not _is_rolled_out(state, version):
        why = f"{at.asked.reason}: {decision.why}"
        state = promote(at.settings, [at.plant], version, who=WHO, why=why)
    follow_journal(at.settings, at.plant)
    stage = Action.CHAMPION if state.champion == version else state.stage
    return RolledOut(stage=str(stage), told=state.told())


def _is_rolled_out(state: Rollout, version: str) -> bool:
    has_begun = state.stage in {Action.SHADOW, Action.CANARY}
    return state.champion == version or (state.challenger == version and has_begun)


def _key(at: Retraining) -> str:
    return f"{at.plant.prefix}/{at.run.name}"


def _ended(at: Retraining, outcome: Outcome, step: str, why: str) -> RetrainReport:
    end = Ended(outcome=outcome, step=step, why=why, t_ns=wiring.open_clock().now_ns())
    at.run.keep("end", end)
    shutil.rmtree(at.run.path / "checkpoint", ignore_errors=True)
    if outcome is Outcome.IN_SERVICE:
        shutil.rmtree(at.run.path / "candidate", ignore_errors=True)
    return RetrainReport(at.run.path, at.asked.version, end)


STEPS: Mapping[str, tuple[type[BaseModel], Callable[[Retraining], BaseModel]]] = {
    "ingest": (Ingested, _ingest),
    "validate": (Validated, _validate),
    "train": (TrainedModel, _train),
    "evaluate": (Evaluated, _evaluate),
    "gate": (Decision, _gate),
    "export": (Exported, _export),
    "rollout": (RolledOut, _rollout),
}
"""Every step in its order, with what it comes to."""
