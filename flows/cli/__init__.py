"""The command ``fusion``: one sub-command for each thing that a person does.

Each is imported when it is called: training needs PyTorch, which takes seconds and a gigabyte, and
what runs for months beside it, a console or a notifier, shall not.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer
import typer.core
import typer.main

from flows.logs import tell
from flows.terminal import CONSOLE
from fusion.errors import FusionError

COMMANDS = {
    "plant": "plant:app",
    "edge": "edge:app",
    "simulate": "stream:simulate_rig",
    "replay": "stream:replay",
    "ingest": "learn:ingest",
    "train": "learn:train",
    "export": "export:export",
    "live": "stream:live",
    "console": "console:console",
    "evaluate": "evaluate:evaluate",
    "backfill": "backfill:backfill",
    "what-if": "what_if:what_if",
    "alarms": "alarms:app",
    "spool": "spool:app",
    "dead-letters": "dead_letters:app",
    "objects": "objects:app",
    "topics": "topics:app",
    "acls": "acls:app",
    "lake": "lake:app",
    "backup": "backup:app",
    "models": "models:app",
    "drift": "drift:app",
    "flows": "flows:app",
    "triton": "triton:app",
    "demo": "demo:app",
    "doctor": "doctor:doctor",
    "plan": "plan:plan",
    "settings": "learn:show_settings",
}
"""Where each lies in this package, in the order of the help."""


class Commands(Mapping[str, Any]):
    """The commands by name; each is imported when somebody asks for it."""

    def __getitem__(self, name: str) -> Any:
        """Return the command, as Typer builds it."""
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        around = typer.Typer(rich_markup_mode="rich", pretty_exceptions_show_locals=False)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=name)
        else:
            around.command(name)(found)
        return typer.main.get_group(around).commands[name]

    def __iter__(self) -> Iterator[str]:
        """Yield their names."""
        return iter(COMMANDS)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(COMMANDS)


class Group(typer.core.TyperGroup):
    """What ``fusion`` offers."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands: Any = Commands()


app = typer.Typer(
    cls=Group,
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


@app.callback()
def _fusion() -> None:
    """Say nothing: what there is to say is the help of the commands."""


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
