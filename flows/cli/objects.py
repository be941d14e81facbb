"""``fusion objects``: what lies in the object store, and the removal of what nobody refers to."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.plant import PlantFile, load_plant
from flows.objects import sweep as sweep_objects
from flows.objects import take_inventory
from flows.settings import Settings
from flows.terminal import CONSOLE, shown

app = typer.Typer(
    no_args_is_help=True,
    help="Show the large records of the object store, or remove what no record refers to.",
)
MAX_SHOWN_MISSING = 20


@app.command()
def show(plant_file: PlantFile) -> None:
    """Show how many objects each day brought, and whether records refer to them."""
    plant, settings = load_plant(plant_file), Settings.load()
    inventory = take_inventory(plant, settings)
    if not inventory.objects and not inventory.missing:
        CONSOLE.print(f"no large records: {settings.objects_uri} has none below {plant.prefix}/")
        return
    num_bytes: Counter[str] = Counter()
    num_objects: Counter[str] = Counter()
    num_referred: Counter[str] = Counter()
    for each in inventory.objects:
        day = each.key.split("/")[1]
        num_bytes[day] += each.num_bytes
        num_objects[day] += 1
        num_referred[day] += each.key in inventory.referred
    table = Table(title=f"{settings.objects_uri}, below {plant.prefix}/")
    for heading in ("day (UTC)", "objects", "MB", "referred to", "not referred to"):
        table.add_column(heading, justify="left" if heading.startswith("day") else "right")
    for day in sorted(num_objects):
        table.add_row(
            day,
            str(num_objects[day]),
            f"{num_bytes[day] / 1e6:.1f}",
            str(num_referred[day]),
            str(num_objects[day] - num_referred[day]),
        )
    CONSOLE.print(table)
    missing = sorted(inventory.missing)
    CONSOLE.print(f"{len(missing)} objects are referred to and missing")
    for key in missing[:MAX_SHOWN_MISSING]:
        CONSOLE.print(f"  {shown(key)}", markup=False, highlight=False)


@app.command()
def sweep(
    plant_file: PlantFile,
    older_than_hours: Annotated[
        float,
        typer.Option(help="Age since it was stored and since the day of its key was over.", min=1),
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    without_lake: Annotated[
        bool, typer.Option("--without-lake", help="This plant has no lake; its records may go.")
    ] = False,
) -> None:
    """Remove objects that no record on the broker and none in the lake refers to.

    Left by uploads whose publish failed, or by records that retention removed. It may be stopped
    and repeated at any time, while senders and the live process run.
    """
    orphans = sweep_objects(
        load_plant(plant_file),
        Settings.load(),
        older_than_hours=older_than_hours,
        needs_lake=not without_lake,
        is_dry_run=dry_run,
    )
    for each in orphans:
        CONSOLE.print(f"{each.key}  {each.num_bytes} bytes", markup=False, highlight=False)
    megabytes = sum(each.num_bytes for each in orphans) / 1e6
    CONSOLE.print(
        f"{'would remove' if dry_run else 'removed'} {len(orphans)} objects, {megabytes:.1f} MB"
    )
