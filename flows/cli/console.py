"""``fusion console``: the operators' pages and their API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.plant import load_plant
from flows.console import serve_console
from flows.settings import Settings
from flows.terminal import CONSOLE


def console(
    plant_files: Annotated[
        list[Path], typer.Argument(metavar="PLANT...", help="Plant files, of any prefixes.")
    ],
) -> None:
    """Serve the operators' pages: alarms as they come, what was seen and heard, trends, journal.

    Reads the broker and nothing else; [bold]fusion live[/bold] makes what it shows, and carries out
    what operators ask for. Any number of consoles may run.

    At the very first start it makes the person [bold]admin[/bold] and prints a password, once. More
    people and tokens are made on the page Access. FUSION_CONSOLE_ADDRESS says where it listens.

    [bold]Example:[/bold] fusion console plants/rig.yaml
    """
    serve_console([load_plant(path) for path in plant_files], Settings.load(), say=tell)


def tell(address: str, password: str | None) -> None:
    """Say where the console is, and the password that nobody will see again."""
    if password is not None:
        CONSOLE.print(
            f"The first person is [bold]admin[/bold], with the password "
            f"[bold]{escape(password)}[/bold]\nIt is shown only now; change it on the page Access."
        )
    CONSOLE.print(f"[bold]open {address}[/bold]  (Ctrl-C ends it)")
