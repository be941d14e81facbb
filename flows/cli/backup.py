"""``fusion backup``: copy the data folder, and get it back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from flows import wiring
from flows.backup import BackupManifest, backups_at, create_backup, delete_backup
from flows.restore import restore_backup
from flows.settings import Settings
from flows.terminal import CONSOLE, progress_bar
from fusion.errors import InputError
from fusion.plant import NANOSECONDS

app = typer.Typer(
    no_args_is_help=True,
    help="Copy lake, models, alarm history and the console's people, verified; and restore them.",
)
Where = Annotated[
    str,
    typer.Argument(
        metavar="WHERE", help="A folder, or s3://bucket/prefix with the keys of FUSION_OBJECTS_..."
    ),
]


@app.command()
def create(
    where: Where,
    keep: Annotated[
        int | None, typer.Option(help="Remove all but so many of the newest afterwards.", min=1)
    ] = None,
) -> None:
    """Copy everything that FUSION_DATA_DIR keeps; the product may go on meanwhile.

    Example: [bold]fusion backup create /mnt/backups --keep 14[/bold]
    """
    settings, t_ns = Settings.load(), wiring.open_clock().now_ns()
    name = datetime.fromtimestamp(t_ns / NANOSECONDS, UTC).strftime("%Y%m%dT%H%M%SZ")
    with progress_bar() as bar:
        task = bar.add_task("copying", total=None, note="")
        made = create_backup(
            settings,
            where,
            name=name,
            t_ns=t_ns,
            advance=lambda path, _: bar.update(task, advance=1, note=path),
        )
    CONSOLE.print(f"backup [bold]{made.name}[/bold]: {_size(made)}")
    for left_out in made.left_out:
        CONSOLE.print(f"[yellow]not in it:[/yellow] {left_out}")
    if keep is not None:
        for old in backups_at(settings, where)[:-keep]:
            delete_backup(settings, where, old)
            CONSOLE.print(f"removed {old.name}")


@app.command("list")
def list_backups(where: Where) -> None:
    """Show the backups there, oldest first."""
    table = Table()
    for heading in ("backup", "files", "MB", "tables of the lake", "not in it"):
        table.add_column(heading, overflow="fold")
    for each in backups_at(Settings.load(), where):
        table.add_row(
            each.name,
            str(len(each.files)),
            f"{each.num_bytes / 1e6:.1f}",
            str(len(each.tables)),
            "; ".join(each.left_out),
        )
    CONSOLE.print(table)


@app.command()
def restore(
    where: Where,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="As the list names it; the newest.")
    ] = None,
) -> None:
    """Fetch a backup, verify all of it, and move it into FUSION_DATA_DIR; overwrites nothing.

    Stop every process of the plant first. Killed in between, run it again.
    """
    settings = Settings.load()
    if name is None:
        there = backups_at(settings, where)
        if not there:
            raise InputError(f"there must be a backup at {where}, and there is none")
        name = there[-1].name
    with progress_bar() as bar:
        task = bar.add_task("fetching", total=None, note="")
        restored = restore_backup(
            settings,
            where,
            name,
            advance=lambda path, _: bar.update(task, advance=1, note=path),
        )
    CONSOLE.print(
        f"[bold]{settings.data_dir}[/bold] is as it was at {name}: {_size(restored)}, each verified"
    )


def _size(manifest: BackupManifest) -> str:
    return f"{len(manifest.files)} files, {manifest.num_bytes / 1e6:.1f} MB"
