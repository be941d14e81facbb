"""``fusion ingest | train | settings``: from the broker to a model."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.lake import parse_moment
from flows.settings import Settings
from flows.terminal import CONSOLE, gauge_line, progress_bar
from fusion.errors import InputError
from fusion.training import RECIPES, StepReport


def quiet_prefect() -> None:
    """Keep Prefect's own messages out of a person's way, before it is imported."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_STARTUP_TIMEOUT_SECONDS", "120")


def ingest(plant_file: PlantFile) -> None:
    """Copy what the broker holds of the plant into the lake, each record once.

    Run it as often as you like: it goes on where the lake ends.
    """
    load_plant(plant_file)
    quiet_prefect()
    from flows.prefect_ingest import ingest as flow  # noqa: PLC0415 starting Prefect takes seconds

    num_stored = flow(str(plant_file), settings=Settings.load())
    CONSOLE.print(f"{num_stored} new records are in the lake")


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
) -> None:
    """Train a model on everything that the lake holds of the plant, or held when it is named.

    Gauges on held-out data say at every step whether the embedding is alive; a run whose embedding
    collapses stops itself and writes nothing.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    if data_as_of is not None:
        if data_version is not None:
            raise InputError("either --data-version or --data-as-of can be given, got both")
        lake = wiring.open_lake(settings)
        data_version = lake.version(plant.sense_topics, at_ns=parse_moment(data_as_of))
    run_training(str(plant_file), recipe, seed, steps, settings, data_version)


def run_training(
    plant_file: str,
    recipe: str,
    seed: int,
    steps: int | None,
    settings: Settings,
    data_version: str | None = None,
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
            on_step=lambda report: _show(bar, task, report),
            on_stage=lambda stage: bar.update(task, description=stage, note=""),
        )
    CONSOLE.print(
        f"model [bold]{made.model_dir}[/bold] trained on {made.num_train_ticks} ticks, calibrated "
        f"on {made.num_calibration_ticks} of {made.data_version}; {gauge_line(made.gauges)}"
    )
    return str(made.model_dir)


def _show(bar: Progress, task: TaskID, report: StepReport) -> None:
    note = gauge_line(report.gauges) if report.gauges else f"loss {report.losses['total']:.2f}"
    bar.update(task, total=report.steps, completed=report.step, note=note)


def show_settings() -> None:
    """Show every setting: its variable, its value now, what it means."""
    settings = Settings.load()
    table = Table()
    for heading in ("variable", "value", "meaning"):
        table.add_column(heading, overflow="fold")
    for name, field in Settings.model_fields.items():
        value = str(getattr(settings, name))
        table.add_row(f"FUSION_{name.upper()}", value, field.description or "")
    CONSOLE.print(table)
