"""``fusion acls``: who may do what on Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import wiring
from flows.plant_files import load_plant
from flows.settings import Settings, read_setting
from flows.terminal import CONSOLE
from fusion.plant import Grant, Policy, grants_of, parse_policy

app = typer.Typer(
    no_args_is_help=True, help="Bring Kafka's access control lists to what the policy says."
)
Plants = Annotated[list[Path], typer.Argument(metavar="PLANT...", help="Plant files.")]
PolicyFile = Annotated[Path, typer.Option("--policy", help="Who may do what, as YAML.")]
DEFAULT_POLICY = Path("deploy/kafka/acls.yaml")


@app.command()
def show(plant_files: Plants, policy_file: PolicyFile = DEFAULT_POLICY) -> None:
    """Show what each user of the policy may do, and whether the brokers have it so.

    Asks the brokers as a user that may describe the cluster.
    """
    wanted = _wanted(plant_files, policy_file)
    found = wiring.found_grants(Settings.load(), {grant.principal for grant in wanted})
    table = Table()
    for heading in ("user", "may", "on", "state"):
        table.add_column(heading, overflow="fold")
    for grant in sorted({*wanted, *found}):
        state = "right" if grant in found else "[yellow]missing[/yellow]"
        if grant not in wanted:
            state = "[red]not in the policy[/red]"
        table.add_row(grant.principal, grant.operation, _resource(grant), state)
    CONSOLE.print(table)


@app.command()
def apply(
    plant_files: Plants,
    policy_file: PolicyFile = DEFAULT_POLICY,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Take away what users of the policy may do beside it. Name ALL plants."
        ),
    ] = False,
) -> None:
    """Allow each user of the policy what it needs for the plants, as a super user of the cluster.

    Without --prune nothing is taken away: what is too much is listed.

    Example: [bold]fusion acls apply plants/rig.yaml[/bold]
    """
    wanted = _wanted(plant_files, policy_file)
    added, surplus = wiring.apply_grants(Settings.load(), wanted, prune=prune)
    for grant in added:
        CONSOLE.print(f"{grant.principal} may now {grant.operation} {_resource(grant)}")
    for grant in surplus:
        done = "may no longer" if prune else "[yellow]may beside the policy[/yellow]"
        CONSOLE.print(f"{grant.principal} {done} {grant.operation} {_resource(grant)}")
    if not added and not surplus:
        CONSOLE.print("every user may do what the policy says; nothing to do")


def _wanted(plant_files: list[Path], policy_file: Path) -> list[Grant]:
    text = read_setting("--policy", policy_file)
    policy: Policy = parse_policy(text, origin=str(policy_file))
    return grants_of(policy, [load_plant(path) for path in plant_files])


def _resource(grant: Grant) -> str:
    kind = grant.resource.replace("_", " ")
    return f"{kind} {grant.name}{'*' if grant.is_prefix else ''}"
