"""``fusion plan``: what a fleet of plants needs, from measured unit costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.plant import PlantFile, load_plant
from flows.terminal import CONSOLE
from fusion.capacity import UNIT_COSTS, CapacityPlan, Sizing, plan_capacity


def plan(
    plant_file: PlantFile,
    plants: Annotated[int, typer.Option(help="How many plants like this one.", min=1)] = 1,
    headroom: Annotated[
        float, typer.Option(help="Share of every machine and disk that stays free.", min=0, max=0.9)
    ] = 0.4,
    replication: Annotated[
        int, typer.Option(help="Copies of each record on the brokers.", min=1, max=9)
    ] = 3,
    lake_days: Annotated[
        float, typer.Option(help="For how many days the lake has room.", min=0)
    ] = 365,
    tabs: Annotated[int, typer.Option(help="Browser tabs open at the consoles.", min=0)] = 20,
    triton: Annotated[
        bool, typer.Option("--triton", help="Networks run in Triton, not in the live processes.")
    ] = False,
    costs: Annotated[
        bool,
        typer.Option("--costs", help="Also show the unit costs, and where they were measured."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON instead.")
    ] = False,
) -> None:
    """Say how many brokers, partitions, processes and disks a number of plants needs.

    Arithmetic, nothing is started: the streams of the plant file, times the cost of each record and
    tick as the benchmarks measured it, times the number of plants, with headroom. Beside each line
    stands what it assumes; what goes beyond anything that was measured is said below the table.
    Measure the first plants (docs/capacity.md says how) before you buy for a thousand.

    Example: [bold]fusion plan plants/rig.yaml --plants 100[/bold]
    """
    made = plan_capacity(
        load_plant(plant_file),
        Sizing(
            plants,
            headroom=headroom,
            replication=replication,
            lake_days=lake_days,
            num_tabs=tabs,
            uses_triton=triton,
        ),
    )
    if as_json:
        typer.echo(json.dumps(asdict(made), indent=1))
        return
    CONSOLE.print(_table(made))
    if costs:
        CONSOLE.print(_costs())
    for warning in made.warnings:
        CONSOLE.print(f"[yellow]beyond what was measured[/yellow] {warning}", highlight=False)


def _table(made: CapacityPlan) -> Table:
    table = Table("what", "how many", "", "because")
    for row in made.rows:
        amount = f"{row.amount:,.0f}" if row.amount >= 100 else f"{row.amount:,.3g}"
        table.add_row(row.what, amount, row.unit, row.because)
    return table


def _costs() -> Table:
    table = Table("unit cost", "", "of", "measured in docs/benchmarks/")
    for each in UNIT_COSTS.values():
        table.add_row(f"{each.value:g}", each.unit, each.what, each.source)
    return table
