"""``fusion console``: the operators' pages and their API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.plant import load_plant
from flows.console import serve_console
from flows.logs import begin_service
from flows.logs import tell as log
from flows.settings import Settings
from flows.terminal import CONSOLE

FIRST_PASSWORD_FILE = "console-first-password"  # noqa: S105 a file's name


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
    settings = Settings.load()
    begin_service(settings, "console")
    serve_console(
        [load_plant(path) for path in plant_files],
        settings,
        say=lambda address, password: tell(address, password, settings),
    )


def tell(address: str, password: str | None, settings: Settings) -> None:
    """Say where the console is, and the password that nobody will see again.

    Logs are kept and sent about: there it is only said in which file the password is.
    """
    if CONSOLE.quiet:
        if password is not None:
            path = settings.data_dir / FIRST_PASSWORD_FILE
            path.touch(mode=0o600)
            path.write_text(f"{password}\n", encoding="utf-8")
            log("info", f"the first person is admin; the password is in {path}: change it")
        log("info", f"the console is at {address}")
        return
    if password is not None:
        CONSOLE.print(
            f"The first person is [bold]admin[/bold], with the password "
            f"[bold]{escape(password)}[/bold]\nIt is shown only now; change it on the page Access."
        )
    CONSOLE.print(f"[bold]open {address}[/bold]  (Ctrl-C ends it)")
