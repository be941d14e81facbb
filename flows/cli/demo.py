"""``fusion demo``: the whole chain on this machine, from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import CONSOLE

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Run the whole chain on this machine: broker, lake, training, live alarms, report.\n\n"
        "[bold]rig[/bold] is simulated; [bold]skab[/bold] and [bold]side-by-side[/bold] replay "
        "real recordings, which you must have."
    ),
)

PLANTS = Path(__file__).parents[2] / "plants"
Out = Annotated[Path | None, typer.Option(help="Folder of this run; an older demo is replaced.")]
Seed = Annotated[int, typer.Option(help="Seed of the simulation and of the training.")]
Steps = Annotated[int | None, typer.Option(help="Training steps, instead of the recipe's.")]
Data = Annotated[
    Path,
    typer.Option(envvar="FUSION_SHARED_DATA", help="Folder of the real recordings.", exists=True),
]


@app.command()
def rig(
    out: Out = None,
    seed: Seed = 0,
    normal_minutes: Annotated[
        float, typer.Option(help="Normal running to learn from, in plant time.", min=3)
    ] = 80.0,
    steps: Steps = None,
    console: Annotated[
        bool,
        typer.Option("--console", help="Serve the operators' pages too, from the alarms on."),
    ] = False,
) -> None:
    """Simulate a pump rig, learn how it behaves, inject ten faults, report what was noticed."""
    from flows.demo.rig import run_rig_demo  # noqa: PLC0415 torch takes seconds to import

    report = run_rig_demo(
        PLANTS / "rig.yaml",
        out or Path("out/demo-rig"),
        seed=seed,
        normal_minutes=normal_minutes,
        steps=steps,
        with_console=console,
    )
    CONSOLE.print(f"[bold]open {report}[/bold]")


@app.command()
def rollout(
    out: Out = None,
    seed: Seed = 0,
    normal_minutes: Annotated[
        float, typer.Option(help="Normal running to learn from, in plant time.", min=3)
    ] = 8.0,
) -> None:
    """Promote a challenger that was degraded on purpose; it goes back by itself. Then a good one.

    On the simulated rig, through a real Triton where deploy/triton/install.sh has been run.
    """
    from flows.demo.rollout import run_rollout_demo  # noqa: PLC0415 torch takes seconds to import

    picture = run_rollout_demo(
        PLANTS / "rig.yaml", out or Path("out/demo-rollout"), seed=seed, minutes=normal_minutes
    )
    CONSOLE.print(f"[bold]open {picture}[/bold]")


@app.command()
def skab(
    data: Data,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = None,
) -> None:
    """Replay a real testbed (SKAB) through the chain; print the official metrics."""
    from flows.demo.skab import run_skab_demo  # noqa: PLC0415 torch takes seconds to import

    report, _ = run_skab_demo(
        PLANTS / "replays", out or Path("out/demo-skab"), data, seed=seed, steps=steps
    )
    CONSOLE.print(f"[bold]open {report}[/bold]")


@app.command("side-by-side")
def side_by_side(
    data: Data,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = None,
) -> None:
    """Replay real sound, pictures and telemetry of different machines on one clock.

    A test of the pipeline, not of the physics: nothing connects the three machines.
    """
    from flows.demo.side_by_side import run_side_by_side_demo  # noqa: PLC0415 as above

    report = run_side_by_side_demo(
        PLANTS / "replays", out or Path("out/demo-side-by-side"), data, seed=seed, steps=steps
    )
    CONSOLE.print(f"[bold]open {report}[/bold]")
