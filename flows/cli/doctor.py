"""``fusion doctor``: what is wrong, and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows import wiring
from flows.cli.plant import load_plant
from flows.doctor.examination import examine
from flows.doctor.findings import MARKS, Finding, State, failed
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import SettingsError

_COLOURS = {State.RIGHT: "green", State.LOOK: "yellow", State.WRONG: "bold red"}


def doctor(
    plant_file: Annotated[
        Path | None,
        typer.Argument(metavar="[PLANT]", help="Look at this plant's broker and model, too."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say it to a program, on stdout.")
    ] = False,
) -> None:
    """Look whether all that a plant needs is in place, and say what to do where it is not.

    It changes nothing but one record in the topic PREFIX.doctor, which it makes. Exit status 0:
    nothing is wrong; 2: something is.

    [bold]Example:[/bold] fusion doctor plants/rig.yaml
    """
    plant = None if plant_file is None else load_plant(plant_file)
    try:
        settings = Settings.load()
        found = list(examine(plant, settings, wiring.open_clock(), os.environ))
    except SettingsError as broken:  # (without settings nothing else can be looked at)
        found = [failed("settings", broken)]
    if as_json:
        typer.echo(json.dumps([each.for_json() for each in found], indent=2, ensure_ascii=False))
    else:
        _show(found)
    if any(each.state is State.WRONG for each in found):
        raise typer.Exit(2)


def _show(found: list[Finding]) -> None:
    table = Table("", "check", "what was seen", "what to do")
    for each in found:
        mark = Text(f"{MARKS[each.state]} {each.state}", style=_COLOURS[each.state])
        table.add_row(mark, Text(each.check), Text(each.seen), Text(each.mend))
    CONSOLE.print(table)
