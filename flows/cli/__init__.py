"""The command ``fusion``: one sub-command for each thing that a person does."""

from __future__ import annotations

import logging
import sys

import typer

from flows.cli import (
    acls,
    alarms,
    backfill,
    backup,
    console,
    dead_letters,
    demo,
    doctor,
    drift,
    edge,
    evaluate,
    export,
    flows,
    lake,
    learn,
    models,
    objects,
    plan,
    plant,
    signing,
    spool,
    stream,
    topics,
    triton,
    what_if,
)
from flows.logs import tell
from flows.terminal import CONSOLE
from fusion.errors import FusionError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help=(
        "Watch an industrial plant: video, sound and telemetry in, explained alarms out.\n\n"
        "The usual way: [bold]plant check[/bold] a plant file, [bold]simulate[/bold] or "
        "[bold]replay[/bold] records to the broker, [bold]ingest[/bold] them into the lake, "
        "[bold]train[/bold] a model, then run [bold]live[/bold] "
        "and [bold]console[/bold]. [bold]fusion demo[/bold] does all "
        "of it on this machine.\n\nSettings are FUSION_* environment variables; "
        "[bold]fusion settings[/bold] shows them."
    ),
)
app.add_typer(plant.app, name="plant")
app.add_typer(edge.app, name="edge")
app.command("simulate")(stream.simulate_rig)
app.command("replay")(stream.replay)
app.command("ingest")(learn.ingest)
app.command("train")(learn.train)
app.command("export")(export.export)
app.command("live")(stream.live)
app.command("console")(console.console)
app.command("evaluate")(evaluate.evaluate)
app.command("backfill")(backfill.backfill)
app.command("what-if")(what_if.what_if)
app.add_typer(alarms.app, name="alarms")
app.add_typer(spool.app, name="spool")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(objects.app, name="objects")
app.add_typer(topics.app, name="topics")
app.add_typer(acls.app, name="acls")
app.add_typer(lake.app, name="lake")
app.add_typer(backup.app, name="backup")
models.app.command("keygen")(signing.keygen)
models.app.command("sign")(signing.sign)
models.app.command("verify")(signing.verify)
app.add_typer(models.app, name="models")
app.add_typer(drift.app, name="drift")
app.add_typer(flows.app, name="flows")
app.add_typer(triton.app, name="triton")
app.add_typer(demo.app, name="demo")
app.command("doctor")(doctor.doctor)
app.command("plan")(plan.plan)
app.command("settings")(learn.show_settings)


def main() -> None:
    """Run the command line. Exit status 0 done, 2 an input must be changed, 75 try again later."""
    # What it says about its own connections reaches people as our errors, once and with the mend.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app()
    except FusionError as error:
        tell("error", type(error).__name__, str(error))
        sys.exit(75 if error.retriable else 2)
    except KeyboardInterrupt:
        CONSOLE.print("stopped; what was published stays, nothing is half written")
        sys.exit(130)
