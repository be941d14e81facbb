"""The steps from data to a judged candidate: ingest, validate, train, evaluate, gate.

The candidate lies in the run's folder, where no live process looks.
"""

from __future__ import annotations

import contextlib
import math

from flows import wiring
from flows.ingest import ingest_once
from flows.learn import Ordered, TrainReport, train_from_lake
from flows.registry import register
from flows.retraining_data import (
    champion_of,
    look_at_lake,
    mismatches_of,
    moving_tags,
    observations_in,
    verdicts_since,
)
from flows.retraining_evaluation import Asking, Evaluated, evaluate_candidate
from flows.retraining_results import Ingested, Retraining, TrainedModel, Validated
from flows.retraining_run import examinations_of, freeze
from flows.rollout_journal import journal_of
from flows.shared_training import train_in_processes
from flows.training_memory import memory_finding
from fusion.errors import RecipeError
from fusion.manifest import load_manifest
from fusion.retraining.gate import Decision, decide
from fusion.retraining.incidents import Periods, as_judged, divide
from fusion.retraining.quality import (
    Finding,
    QualityReport,
    check_examination,
    check_quality,
    of_ticks,
)

INGEST_GROUP = "ingest"


def ingest(at: Retraining) -> Ingested:
    """Copy what the broker has into the lake; return the version that the run reads."""
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


def validate(at: Retraining) -> Validated:
    """Divide what was seen, and return whether it is fit to learn from."""
    policy, data_version = at.asked.policy, at.result("ingest", Ingested).data_version
    frozen = examinations_of(at.settings, at.plant)
    seen = look_at_lake(at.plant, at.settings, data_version, frozen=frozen, recipe=policy.periods)
    if seen is None:
        raise RecipeError(
            f"retraining needs records of {list(at.plant.sense_topics)} in the lake, and it holds "
            "none; `fusion ingest` first"
        )
    periods = divide(seen.ticks, frozen, seen.incidents, policy.periods, at.plant, data_version)
    judged = as_judged(periods.examination, seen.incidents, at.plant)
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
    num_ticks = len(of_ticks(seen.table, periods.train))
    report = QualityReport(
        findings=(
            *report.findings,
            check_examination(judged, at.plant, policy.quality),
            memory_finding(at.plant, num_ticks, at_once=at.asked.processes),
            _room(at),
        )
    )
    at.say(report.told())
    return Validated(
        report=report,
        train=tuple((each.start, each.stop) for each in periods.train),
        examination=periods.examination,
        examination_file=_frozen(at, periods, is_good=report.is_good),
        as_judged=judged,
        verdicts=verdicts_since(at.plant, at.settings, champion, seen.episodes),
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


def train(at: Retraining) -> TrainedModel:
    """Train the candidate, or find that it is whole already, and return it."""
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


def evaluate(at: Retraining) -> Evaluated:
    """Return what candidate, champion and baseline do on the examination."""
    validated = at.result("validate", Validated)
    version = at.asked.version
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
        Asking(
            validated.examination,
            validated.as_judged or validated.examination,
            validated.verdicts,
        ),
        learned=learned,
        held_out=at.asked.recipe.held_out,
        folder=at.evaluation_dir,
        say=at.say,
    )


def gate(at: Retraining) -> Decision:
    """Decide whether the candidate may go on, and keep the decision where runs are kept."""
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


def _key(at: Retraining) -> str:
    return f"{at.plant.prefix}/{at.run.name}"
