"""``fusion ingest | train | settings``: from the broker to a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.health import serve_health
from flows.ingest import left_to_ingest
from flows.lake import parse_moment
from flows.learn import TrainReport, train_shared
from flows.logs import begin_service, tell
from flows.metrics.ingest import IngestMetrics
from flows.ranks import open_ranks
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE, gauge_line, gauge_row, progress_bar
from fusion.errors import FusionError, InputError
from fusion.plant import Plant
from fusion.training import RECIPES, Recipe, StepReport, recipe_named
from fusion.training.parallel import Ranks
from fusion.wording import without_password

LONGEST_RUN_S = 600.0
"""Of one run of the flow: its batches are bounded."""


def quiet_prefect(*, level: str = "WARNING") -> None:
    """Keep Prefect's own messages below ``level`` out of a person's way, before it is imported."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", level)
    # Its own 20 s are too short for a first start on a machine with something else to do.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def ingest(
    plant_file: PlantFile,
    every_s: Annotated[
        float | None,
        typer.Option("--every", help="Go on, with a run every so many seconds.", min=1),
    ] = None,
) -> None:
    """Copy what the broker holds of the plant into the lake, each record once.

    Run it as often as you like: it goes on where the lake ends. With --every it does so by itself
    until Ctrl-C; a run that fails because something is away is repeated by the next one.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    quiet_prefect()
    from flows.prefect_ingest import ingest as flow  # noqa: PLC0415 starting Prefect takes seconds

    if every_s is None:
        num_stored = flow(str(plant_file), settings=settings)
        CONSOLE.print(f"{num_stored} new records are in the lake")
        return
    keep_ingesting(
        plant, settings, every_s=every_s, run=lambda: flow(str(plant_file), settings=settings)
    )


def keep_ingesting(
    plant: Plant, settings: Settings, *, every_s: float, run: Callable[[], int]
) -> None:
    """Do ``run`` every ``every_s`` until a signal comes; its health is at FUSION_HEALTH_ADDRESS."""
    begin_service(settings, "ingest")
    clock = wiring.open_clock()
    metrics = IngestMetrics(clock, every_s=every_s, longest_run_s=LONGEST_RUN_S)
    with (
        stop_on_signals() as should_stop,
        serve_health(metrics, settings.health_address, metrics.registry),
    ):
        while not should_stop():
            try:
                num_stored = run()
                metrics.done(num_stored, _left(plant, settings))
                tell("info", f"{num_stored} new records are in the lake", rows=num_stored)
            except FusionError as failed:
                if not failed.retriable:
                    raise
                metrics.failed(str(failed))
                tell("warning", f"again in {every_s:g} s", str(failed))
            waited_s = 0.0
            while waited_s < every_s and not should_stop():
                clock.sleep(0.2)
                waited_s += 0.2


def _left(plant: Plant, settings: Settings) -> dict[str, int]:
    with closing(wiring.open_source(settings, plant.sense_topics, "ingest-left")) as source:
        return left_to_ingest(source, wiring.open_lake(settings))


def train(
    plant_file: PlantFile,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "standard",
    seed: Annotated[int, typer.Option(help="Equal seeds and data give equal models.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's number.")] = None,
    data_version: Annotated[
        str | None, typer.Option(help="A version of the lake, as a model's manifest names it.")
    ] = None,
    data_as_of: Annotated[
        str | None, typer.Option(help="The lake as it was then, such as 2026-11-25T10:00Z.")
    ] = None,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Keep the run here; one that was cut off goes on.")
    ] = None,
) -> None:
    """Train a model on everything that the lake holds of the plant, or held when it is named.

    Gauges on held-out data say from step 0 on whether the embedding is alive; a run whose embedding
    collapses stops itself and writes no model. Runs are kept in MLflow (FUSION_MLFLOW_URI).

    Several processes or GPUs share every batch and make the same model:

    [bold]torchrun --nproc-per-node 2 -m flows.cli train PLANT --recipe standard[/bold]
    """
    plant, settings = load_plant(plant_file), Settings.load()
    if data_as_of is not None:
        if data_version is not None:
            raise InputError("either --data-version or --data-as-of can be given, got both")
        lake = wiring.open_lake(settings)
        data_version = lake.version(plant.sense_topics, at_ns=parse_moment(data_as_of))
    with open_ranks() as ranks:
        if ranks.size == 1:
            run_training(
                str(plant_file), recipe, seed, steps, settings, data_version, checkpoint_dir
            )
        else:
            chosen = recipe_named(recipe, seed=seed, steps=steps)
            _run_shared(plant, chosen, settings, data_version, checkpoint_dir, ranks)


def run_training(
    plant_file: str,
    recipe: str,
    seed: int,
    steps: int | None,
    settings: Settings,
    data_version: str | None = None,
    checkpoint_dir: Path | None = None,
) -> str:
    """Run the training flow with a progress bar, and return the new model version's folder."""
    quiet_prefect()
    from flows.prefect_train import train as flow  # noqa: PLC0415 starting Prefect takes seconds

    with progress_bar() as bar:
        task = bar.add_task("training", total=None, note="starting")
        made = flow(
            plant_file,
            recipe,
            seed=seed,
            steps=steps,
            settings=settings,
            data_version=data_version,
            checkpoint_dir=checkpoint_dir,
            on_step=lambda report: _show(bar, task, report),
            on_stage=lambda stage: bar.update(task, description=stage, note=""),
        )
    _tell(made)
    return str(made.model_dir)


def _run_shared(
    plant: Plant,
    recipe: Recipe,
    settings: Settings,
    data_version: str | None,
    checkpoint_dir: Path | None,
    ranks: Ranks,
) -> None:
    """Train with the other processes that ``torchrun`` started; it retries, so Prefect need not."""
    with progress_bar(is_shown=ranks.rank == 0) as bar:
        task = bar.add_task("training", total=None, note="starting")
        made = train_shared(
            wiring.open_lake(settings),
            plant,
            recipe,
            settings,
            ranks=ranks,
            data_version=data_version,
            on_step=lambda report: _show(bar, task, report),
            on_stage=lambda stage: bar.update(task, description=stage, note=""),
            checkpoint_dir=checkpoint_dir,
        )
    if made is not None:
        _tell(made)


def _tell(made: TrainReport) -> None:
    CONSOLE.print(
        f"model [bold]{made.model_dir}[/bold] trained on {made.num_train_ticks} ticks, calibrated "
        f"on {made.num_calibration_ticks} of {made.data_version}; {gauge_line(made.gauges)}"
    )


def _show(bar: Progress, task: TaskID, report: StepReport) -> None:
    if report.gauges is not None:
        # A line for each measurement stays, above the bar or in a log.
        bar.console.print(gauge_row(report.step, report.gauges), highlight=False)
    note = f"loss {report.losses['total']:.2f}" if report.losses else ""
    bar.update(task, total=report.steps, completed=report.step, note=note)


def show_settings() -> None:
    """Show every setting: its variable, its value now, what it means."""
    settings = Settings.load()
    table = Table()
    for heading in ("variable", "value", "meaning"):
        table.add_column(heading, overflow="fold")
    for name, field in Settings.model_fields.items():
        value = without_password(str(getattr(settings, name)))
        table.add_row(f"FUSION_{name.upper()}", value, field.description or "")
    CONSOLE.print(table)
