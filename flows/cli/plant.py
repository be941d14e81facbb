"""``fusion plant``: check a plant file, print its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.plant_files import load_plant
from flows.terminal import CONSOLE
from fusion.plant import AudioStream, Plant, Tag, TelemetryStream

app = typer.Typer(no_args_is_help=True, help="Check a plant file, or print the schema it follows.")

PlantFile = Annotated[
    Path, typer.Argument(metavar="PLANT", help="The plant file, for example plants/rig.yaml.")
]


@app.command()
def check(plant_file: PlantFile) -> None:
    """Say every mistake of a plant file, or show what it describes.

    Exit status 0 when the file is right, 2 when it is not.
    """
    plant = load_plant(plant_file)
    table = Table(title=f"{plant.address}   tick {plant.tick_s:g} s   topics {plant.prefix}.*")
    for heading in ("stream", "modality", "rate", "clock", "absent after", "carries"):
        table.add_column(heading)
    for stream in plant.streams:
        if isinstance(stream, TelemetryStream):
            rate = f"{stream.rate_hz:g} Hz"
            carries = f"{len(stream.measured)} tags, {len(stream.setpoints)} set-points"
        elif isinstance(stream, AudioStream):
            rate, carries = f"{stream.sample_rate_hz} Hz", "one microphone"
        else:
            rate = f"{stream.rate_hz:g} Hz"
            carries = f"{stream.width_px} x {stream.height_px} px"
        table.add_row(
            stream.name, stream.modality, rate, stream.clock, f"{stream.max_age_s:g} s", carries
        )
    CONSOLE.print(table)
    limited = [tag.name for tag in plant.measured if tag.limits is not None]
    CONSOLE.print(
        f"limits on: {', '.join(limited) or 'no tag'}\n"
        f"set-points: {'; '.join(map(_movable, plant.setpoints)) or 'none'}\n"
        f"alarms: {', '.join(alarm.name for alarm in plant.alarms) or 'none (advisories only)'}\n"
        f"false-alarm budget: {plant.scoring.false_alarms_per_day:g} a day\n"
        f"[bold]{plant_file} is right.[/bold]"
    )


def _movable(tag: Tag) -> str:
    """Return where, and how fast, a what-if may move a set-point."""
    low, high = tag.bounds
    rate = (
        "" if tag.rate_limit_per_s is None else f", at most {tag.rate_limit_per_s:g} {tag.unit}/s"
    )
    return f"{tag.name} {low:g} to {high:g} {tag.unit}{rate}"


@app.command()
def schema() -> None:
    """Print the JSON Schema of plant files (for an editor's completion and checks)."""
    typer.echo(json.dumps(Plant.model_json_schema(), indent=2))
