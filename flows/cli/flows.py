"""``fusion flows deploy | serve | run | status | timeline``: what runs by itself, and what came."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from flows.cli.learn import quiet_prefect
from flows.cli.plant import PlantFile, load_plant
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant

FILE = Path("prefect.yaml")
RUNS_SHOWN = 10

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Run the flows by themselves: ingest, retrain, rollout, drift, housekeeping.\n\n"
        "What runs when, with which parameters, stands in [bold]prefect.yaml[/bold]. On one "
        "machine [bold]fusion flows serve[/bold] does all of it. With a Prefect server and "
        "workers: [bold]fusion flows deploy[/bold], then [bold]prefect worker start --pool "
        "fusion[/bold]. [bold]fusion flows run retrain[/bold] does one now, on the server that "
        "PREFECT_API_URL names, or here. docs/operations.md tells the whole story."
    ),
)
File = Annotated[Path, typer.Option("--file", help="Where the deployments are described.")]


@app.command()
def deploy(
    file: File = FILE,
    pool_type: Annotated[
        str, typer.Option(help="Of a work pool that is not there yet: process, docker, ...")
    ] = "process",
) -> None:
    """Put every flow of prefect.yaml on the Prefect server that PREFECT_API_URL names.

    The work pool is made where there is none. Flows then run where a worker of it runs:
    [bold]prefect worker start --pool fusion[/bold]. Pools of containers: deploy/prefect.
    """
    quiet_prefect()
    from flows.prefect_deployments import deploy_all, deployments_in  # noqa: PLC0415 seconds

    deploy_all(file, pool_type=pool_type)
    CONSOLE.print(f"deployed: {', '.join(deployments_in(file))}")
    CONSOLE.print("they run where a worker does: prefect worker start --pool fusion")


@app.command()
def serve(
    file: File = FILE,
    limit: Annotated[int, typer.Option(help="Flows at the same time.", min=1)] = 2,
) -> None:
    """Run every flow of prefect.yaml on its schedule from this process, until Ctrl-C.

    Needs no server: without PREFECT_API_URL one is started with it, and its address is printed, so
    that `fusion flows status` and `run` reach it from another terminal.
    """
    # Runs are its children: what they say is for the terminal here, and for Prefect's pages.
    quiet_prefect(level="INFO")
    from flows.prefect_deployments import serve_all  # noqa: PLC0415 seconds

    serve_all(file, limit=limit, say=CONSOLE.print)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A deployment of prefect.yaml, such as retrain.")],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="Instead of the file's: NAME=VALUE, as YAML."),
    ] = None,
    file: File = FILE,
) -> None:
    """Start one flow now: on the server that PREFECT_API_URL names, or here, to its end.

    Example: [bold]fusion flows run retrain -p reason="new impeller" -p recipe=quick[/bold]
    """
    changes = _parsed(param or [])
    quiet_prefect()
    from flows.prefect_deployments import run_named  # noqa: PLC0415 seconds

    CONSOLE.print(run_named(name, changes, file), markup=False)


@app.command()
def status(
    plant_file: Annotated[
        list[Path] | None, typer.Argument(metavar="[PLANT]...", help="Show its retrainings.")
    ] = None,
) -> None:
    """Show what the server runs and when, and how far each retraining of a plant came and why."""
    quiet_prefect()
    from flows.prefect_deployments import server_status  # noqa: PLC0415 seconds

    found = server_status()
    if found is None:
        CONSOLE.print("no server is configured (PREFECT_API_URL); nothing is scheduled from here")
    else:
        table = Table("deployment", "last run", "next run (UTC)")
        for each in found:
            table.add_row(each.name, each.last, "paused" if each.is_paused else each.next)
        CONSOLE.print(table)
    for path in plant_file or []:
        CONSOLE.print(_retrainings(load_plant(path), Settings.load()))


@app.command()
def timeline(
    plant_file: PlantFile,
    out: Annotated[Path, typer.Option(help="The picture: .svg or .png.")] = Path("timeline.svg"),
    last: Annotated[int, typer.Option(help="So many retrainings, the newest.", min=1)] = 10,
) -> None:
    """Draw what became of a plant's models: drift, retrainings, what the gate said, who served.

    Made of what every part wrote down while it worked, and of the scores that the broker has.

    Example: [bold]fusion flows timeline plants/rig.yaml --out loop.svg[/bold]
    """
    from flows.timeline import timeline_of  # noqa: PLC0415 torch takes seconds to import
    from flows.timeline_picture import draw_timeline  # noqa: PLC0415

    draw_timeline(timeline_of(load_plant(plant_file), Settings.load(), last=last), out)
    CONSOLE.print(f"drawn: {out}")


def _retrainings(plant: Plant, settings: Settings) -> Table:
    from flows.retraining import STEPS  # noqa: PLC0415 torch takes seconds to import
    from flows.retraining_run import runs_of  # noqa: PLC0415

    table = Table(title=f"Retrainings of {plant.prefix}")
    for heading in ("version", "begun (UTC)", "reason", "how far", "why"):
        table.add_column(heading, overflow="fold")
    for each in runs_of(settings, plant)[-RUNS_SHOWN:]:
        asked, end = each.asked(), each.end()
        done = [step for step, (kind, _) in STEPS.items() if each.kept(step, kind) is not None]
        begun = datetime.datetime.fromtimestamp(asked.t_begun_ns // NANOSECONDS, datetime.UTC)
        table.add_row(
            asked.version,
            f"{begun:%Y-%m-%d %H:%M}",
            asked.reason,
            f"{end.outcome} after {end.step}" if end else f"done: {', '.join(done) or 'nothing'}",
            end.why if end else "goes on with the next `retrain`, if none runs now",
        )
    return table


def _parsed(params: list[str]) -> dict[str, Any]:
    """Return parameters from the command line.

    Example:
        >>> _parsed(["steps=30", "reason=new impeller"])
        {'steps': 30, 'reason': 'new impeller'}
    """
    found: dict[str, Any] = {}
    for each in params:
        name, equals, value = each.partition("=")
        if not equals:
            raise InputError(f"a parameter must be NAME=VALUE, got {each!r}")
        found[name] = yaml.safe_load(value)
    return found
