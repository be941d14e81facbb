"""``fusion edge``: read the devices of a plant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.plant import PlantFile
from flows.discovery import draft_cameras, draft_plant
from flows.edge import HANG_S
from flows.edge_supervisor import become_supervisor
from flows.terminal import CONSOLE
from fusion.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    help="Read the devices of a plant (OPC UA, MQTT, Modbus, cameras, microphones, files) and "
    "send what they say to the broker.",
)
CAMERAS = "onvif"


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
    become_supervisor(plant_file, device or [], hang_s=hang_s)


@app.command()
def discover(
    endpoint: Annotated[
        str,
        typer.Argument(
            help="Of an OPC UA server, for example opc.tcp://plc.plant:4840; or onvif: every "
            "camera of this network that answers."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the draft goes; must not exist yet.")
    ] = Path("draft-plant.yaml"),
    most: Annotated[
        int, typer.Option(help="So many variables or cameras at most.", min=1, max=10_000)
    ] = 500,
    wait_s: Annotated[
        float, typer.Option(help="How long cameras may take to answer.", min=0.5, max=60)
    ] = 5.0,
    connection: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with security and login of the server, as a plant file has them."
        ),
    ] = None,
) -> None:
    """Browse an OPC UA server, or ask for cameras, and write a draft plant file.

    Of a server every number becomes a tag, of a network every camera that answers an ONVIF probe
    ([bold]onvif[/bold] as the endpoint) a device and its stream.

    Units and ranges are the server's where it states them; where not, the draft says TODO, and
    [bold]fusion plant check[/bold] says what is missing. Delete the tags that do not matter.

    Example: [bold]fusion edge discover opc.tcp://127.0.0.1:4840 -o press.yaml[/bold]
    """
    if output.exists():
        raise InputError(f"{output} must not exist yet, nothing is overwritten; name another file")
    if endpoint == CAMERAS:
        with CONSOLE.status("asking"):
            text, num_cameras = draft_cameras(wait_s=wait_s, most=most)
        output.write_text(text, encoding="utf-8")
        CONSOLE.print(
            f"{num_cameras} cameras are in {output}. Next: write the address, each camera's TODO "
            f"and login, then: fusion plant check {output}"
        )
        return
    with CONSOLE.status("browsing") as shown:
        text, num_tags = draft_plant(
            endpoint,
            connection,
            most=most,
            on_progress=lambda count: shown.update(f"browsing: {count} variables"),
        )
    output.write_text(text, encoding="utf-8")
    CONSOLE.print(
        f"{num_tags} tags are in {output}. Next: write the address, delete what does not matter, "
        f"replace every TODO, then: fusion plant check {output}"
    )
