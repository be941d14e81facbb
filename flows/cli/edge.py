"""``fusion edge``: read the devices of a plant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.edge import HANG_S, Edge, device_command
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE

app = typer.Typer(
    no_args_is_help=True,
    help="Read the devices of a plant (OPC UA, MQTT, Modbus, cameras, microphones, files) and "
    "send what they say to the broker.",
)
_COLOURS = {"connected": "green", "ended": "green", "connecting": "yellow", "waiting": "yellow"}


@app.command()
def run(
    plant_file: PlantFile,
    device: Annotated[
        list[str] | None, typer.Option(help="Only this device; give it more than once for more.")
    ] = None,
    hang_s: Annotated[
        float,
        typer.Option(help="A device's process that gives no sign for so long is killed.", min=5),
    ] = HANG_S,
) -> None:
    """Read every device that the plant file describes, each in a process of its own.

    A device that is away is tried again for ever; its process is started again when it crashes or
    hangs, and the others do not notice. While the broker is away, everything waits on disk
    ([bold]fusion spool show[/bold]). Stop with Ctrl-C: what was read is sent or waits, and the next
    start goes on from there.

    Example: [bold]fusion edge run press.yaml --device plc --device camera[/bold]
    """
    plant = load_plant(plant_file)

    def tell(name: str, state: str, why: str) -> None:
        now = datetime.now(UTC).strftime("%H:%M:%S")
        colour = _COLOURS.get(state, "red")
        CONSOLE.print(f"{now} {name} [{colour}]{state}[/{colour}] {escape(why)}".rstrip())

    edge = Edge(
        plant,
        device or [],
        command=device_command(plant_file),
        clock=wiring.open_clock(),
        tell=tell,
        hang_s=hang_s,
    )
    with stop_on_signals() as should_stop:
        try:
            while not should_stop() and edge.step(0.5):
                pass
        finally:
            edge.close()
