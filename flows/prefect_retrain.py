"""The Prefect flow of a retraining. The work itself is in :mod:`flows.retraining`.

A step is a task: what is away is tried again with a growing pause, and what is done is not done
again, neither by a retry nor by the next run after a kill.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff
from pydantic import BaseModel, ValidationError

from flows.prefect_ingest import is_retriable
from flows.report.drawing import data_uri
from flows.retraining import RetrainReport, asked_for, perform_step
from flows.retraining import retrain as work
from flows.retraining_evaluation import Evaluated, rows_of
from flows.retraining_results import Retraining, Validated
from flows.retraining_run import Outcome, Policy
from flows.settings import Settings
from fusion.errors import RecipeError
from fusion.retraining.gate import Decision
from fusion.training import StepReport

RETRIES = 5


@task(
    name="step",
    task_run_name="{step}",
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def retrain_step(retraining: Retraining, step: str) -> BaseModel:
    """Do one step, or find that it is done, and show what people ask about it."""
    result = perform_step(retraining, step)
    _show(retraining, result)
    return result


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(
    plant_file: str,
    reason: str = "on request",
    recipe: str = "standard",
    *,
    seed: int = 0,
    steps: int | None = None,
    processes: int = 1,
    policy_file: str | None = None,
    settings: Settings | None = None,
) -> RetrainReport:
    """Make a new model of the plant from the newest data; it goes into shadow if it may.

    ``reason`` stands in the journal beside what the gate said. ``policy_file`` is YAML with what
    :class:`flows.retraining_run.Policy` has; without one its defaults hold. ``processes`` share the
    training on this machine. A run that was cut off less than a day ago, and was asked for the
    same, goes on.
    """
    logger = get_run_logger()

    def log_step(report: StepReport) -> None:
        if report.gauges is not None:
            shown = ", ".join(f"{k} {v:.2f}" for k, v in sorted(report.gauges.items()))
            logger.info("step %d of %d: %s", report.step, report.steps, shown)

    asked = asked_for(
        Path(plant_file),
        reason=reason,
        recipe=recipe,
        seed=seed,
        steps=steps,
        processes=processes,
        policy=None if policy_file is None else load_policy(Path(policy_file)),
    )
    report = work(
        asked,
        Settings.load() if settings is None else settings,
        perform=retrain_step,
        say=logger.info,
        on_step=log_step,
    )
    level = logger.info if report.end.outcome is Outcome.IN_SERVICE else logger.warning
    level("%s %s after %s: %s", report.version, report.end.outcome, report.end.step, report.end.why)
    return report


def load_policy(path: Path) -> Policy:
    """Return the policy in the YAML file at ``path``.

    Raises:
        RecipeError: It cannot be read, or breaks a rule; says which.
    """
    try:
        return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as unreadable:
        raise RecipeError(f"a policy must be readable YAML, but {path}: {unreadable}") from None
    except ValidationError as invalid:
        raise RecipeError(f"the policy {path} breaks rules: {invalid}; mend them") from invalid


def _show(retraining: Retraining, result: BaseModel) -> None:
    version = retraining.asked.version
    if isinstance(result, Validated):
        rows = [each.model_dump() for each in result.report.findings]
        create_table_artifact(rows, _key("quality", retraining), f"Data quality for {version}")
    elif isinstance(result, Evaluated):
        create_table_artifact(
            rows_of(result),
            _key("evaluation", retraining),
            f"{version} on the examination {result.examination}",
        )
        page, plot, _ = (each.absolute() for each in result.paths(retraining.evaluation_dir))
        create_link_artifact(page.as_uri(), f"Evaluation of {version}", _key("page", retraining))
        # Whole in itself: a browser elsewhere reaches the server, and not this machine's files.
        drawn = data_uri(plot.read_bytes(), "image/png")
        create_image_artifact(drawn, _key("plot", retraining), f"Surprise of {version} and others")
    elif isinstance(result, Decision):
        create_markdown_artifact(
            decision_page(result, version), _key("gate", retraining), f"The gate on {version}"
        )


def decision_page(decision: Decision, version: str) -> str:
    """Return the gate's decision as Markdown: the answer first, then every rule."""
    lines = [f"# {version}: {'passed' if decision.is_passed else 'refused'}", "", decision.why, ""]
    lines += ["| rule | holds | |", "|---|---|---|"]
    lines += [
        f"| {each.kind} | {'yes' if each.is_met else 'no'} | {each.sentence} |"
        for each in decision.rulings
    ]
    return "\n".join([*lines, ""])


def _key(what: str, retraining: Retraining) -> str:
    """Return an artifact's key, under which Prefect keeps the history of the plant."""
    plain = re.sub(r"[^a-z0-9]+", "-", retraining.plant.prefix.lower()).strip("-")
    return f"{plain}-{what}"
