"""The Prefect flow that trains a model from the lake. The work itself is in :mod:`flows.learn`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import wiring
from flows.learn import TrainReport, train_from_lake
from flows.prefect_ingest import is_retriable
from flows.settings import Settings
from fusion.plant import parse_plant
from fusion.training import Recipe, StepReport, recipe_named


@task(
    retries=3,
    retry_delay_seconds=5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_model(
    plant_file: Path,
    recipe: Recipe,
    settings: Settings,
    *,
    data_version: str | None,
    checkpoint_dir: Path | None,
    on_step: Callable[[StepReport], None],
    on_stage: Callable[[str], None],
) -> TrainReport:
    """Train one model version and return what was made."""
    plant = parse_plant(plant_file.read_text(encoding="utf-8"), origin=plant_file.name)
    return train_from_lake(
        wiring.open_lake(settings),
        plant,
        recipe,
        settings,
        data_version=data_version,
        checkpoint_dir=checkpoint_dir,
        on_step=on_step,
        on_stage=on_stage,
    )


@flow(name="train", persist_result=False, validate_parameters=False)
def train(
    plant_file: str,
    recipe: str = "standard",
    *,
    seed: int = 0,
    steps: int | None = None,
    settings: Settings | None = None,
    data_version: str | None = None,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> TrainReport:
    """Train a model on what the lake holds of the plant; return where it lies and its gauges.

    ``data_version`` None is the lake as it is now. With ``checkpoint_dir`` a run that was cut off
    goes on; so does one that a retry repeats.
    """
    logger = get_run_logger()

    def log_step(report: StepReport) -> None:
        if on_step is not None:
            on_step(report)
        if report.gauges:
            shown = ", ".join(f"{k} {v:.2f}" for k, v in sorted(report.gauges.items()))
            logger.info("step %d of %d: %s", report.step, report.steps, shown)

    where = Settings.load() if settings is None else settings
    chosen = recipe_named(recipe, seed=seed, steps=steps)
    made = train_model(
        Path(plant_file),
        chosen,
        where,
        data_version=data_version,
        checkpoint_dir=checkpoint_dir,
        on_step=log_step,
        on_stage=on_stage or _say_nothing,
    )
    logger.info("model %s is trained on %s", made.model_dir.name, made.data_version)
    return made


def _say_nothing(_stage: str) -> None:
    """Stand in for a watcher of stages where there is none."""
