"""``fusion triton start | stop | status``: NVIDIA's inference server on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import wiring
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE
from fusion.errors import SettingsError

REFRESH_S = 0.2

app = typer.Typer(
    no_args_is_help=True,
    help="The inference server that deploy/triton/install.sh fetched: start, stop, status.",
)

MetricsPort = Annotated[int, typer.Option(help="Port of Prometheus metrics.", min=1, max=65535)]


@app.command()
def start(
    metrics_port: MetricsPort = 8002,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until Ctrl-C, then end it.")
    ] = False,
    cert: Annotated[
        Path | None, typer.Option(help="Mutual TLS: PEM of the server's certificate.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Mutual TLS: PEM of its key.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Mutual TLS: PEM of the authority of its clients.")
    ] = None,
) -> None:
    """Start the server at FUSION_TRITON_ADDRESS, and return once it is ready.

    It serves no model yet: `fusion live` loads what it needs. It listens on this machine only, and
    whoever reaches it may load models, which is running code; on a machine that others use, give it
    certificates: [bold]fusion triton start --cert server.pem --key server.key --client-ca
    ca.pem[/bold]. A server that runs already is left as it is.
    """
    settings = Settings.load()
    if settings.triton_ca_file is not None and cert is None:
        raise SettingsError(
            "the server must speak TLS where FUSION_TRITON_CA_FILE is set, and no --cert was "
            "given; give --cert, --key and --client-ca, or unset the FUSION_TRITON_..._FILE"
        )
    server = wiring.triton_server(
        settings, metrics_port=metrics_port, cert=cert, key=key, client_ca=client_ca
    )
    pid = server.start()
    CONSOLE.print(
        f"Triton runs on {settings.triton_address} (process {pid}, log {server.log_file}); it "
        f"reads {server.repository}"
    )
    if not foreground:
        return
    clock = wiring.open_clock()
    try:
        with stop_on_signals() as should_stop:
            while not should_stop() and server.status().pid is not None:
                clock.sleep(REFRESH_S)
    finally:
        server.stop()
    CONSOLE.print("Triton stopped")


@app.command()
def stop() -> None:
    """End the server and every process that it started."""
    was_there = wiring.triton_server(Settings.load()).stop()
    CONSOLE.print("Triton stopped" if was_there else "Triton does not run")


@app.command()
def status() -> None:
    """Say whether the server runs and answers. Exit status 1 when it does not."""
    settings = Settings.load()
    found = wiring.triton_server(settings).status()
    if found.pid is None:
        CONSOLE.print("Triton does not run")
        raise typer.Exit(1)
    CONSOLE.print(
        f"Triton runs (process {found.pid}) "
        + ("and is ready" if found.is_serving else "but does not answer")
        + f" on {settings.triton_address}"
    )
    if not found.is_serving:
        if settings.triton_ca_file is None:
            CONSOLE.print(
                "if it asks for certificates, name them in FUSION_TRITON_CA_FILE, "
                "FUSION_TRITON_CERT_FILE and FUSION_TRITON_KEY_FILE"
            )
        raise typer.Exit(1)
