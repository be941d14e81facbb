"""Keeps the devices of a plant read: ``python -m flows.edge_supervisor PLANT [--device NAME]...``.

``fusion edge run`` becomes this process. It runs for months, and what the other commands need
(training, the lake) would cost it half a gigabyte of memory.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from rich.markup import escape

from flows import wiring
from flows.edge import HANG_S, Edge, device_command
from flows.health import serve_health
from flows.logs import begin_service
from flows.logs import tell as tell_log
from flows.metrics.edge import WELL, EdgeMetrics
from flows.plant_files import load_plant
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE
from fusion.errors import FusionError

_COLOURS = {"connected": "green", "ended": "green", "connecting": "yellow", "waiting": "yellow"}


def become_supervisor(plant_file: Path, devices: Sequence[str], *, hang_s: float) -> NoReturn:
    """Let this process be the supervisor and nothing else: same number, same terminal."""
    named = [word for device in devices for word in ("--device", device)]
    module = ["-m", "flows.entry", "flows.edge_supervisor"]
    command = [*module, str(plant_file), *named, "--hang-s", f"{hang_s:g}"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 our own module


def supervise(plant_file: Path, devices: Sequence[str], *, hang_s: float = HANG_S) -> None:
    """Read ``devices`` of a plant, all without names, until somebody stops this process.

    Raises:
        InputError: The plant file or a setting breaks a rule, or there is no such device.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    begin_service(settings, "edge")
    clock = wiring.open_clock()
    metrics = EdgeMetrics(devices or [each.name for each in plant.devices], clock)

    def tell(name: str, state: str, why: str) -> None:
        metrics.tell(name, state, why)
        if CONSOLE.quiet:
            level = "info" if state in WELL else "warning"
            tell_log(level, f"{name} is {state}", why, device=name, state=state)
            return
        now = datetime.now(UTC).strftime("%H:%M:%S")
        colour = _COLOURS.get(state, "red")
        CONSOLE.print(f"{now} {name} [{colour}]{state}[/{colour}] {escape(why)}".rstrip())

    edge = Edge(
        plant,
        devices,
        command=device_command(plant_file),
        clock=clock,
        tell=tell,
        hear=metrics.hear,
        hang_s=hang_s,
    )
    with (
        stop_on_signals() as should_stop,
        serve_health(metrics, settings.health_address, metrics.registry),
    ):
        try:
            while not should_stop() and edge.step(0.5):
                metrics.beat()
        finally:
            edge.close()


def main() -> None:
    """Supervise. Exit status 0 stopped or ended, 2 an input must be changed, 75 try again later."""
    parser = argparse.ArgumentParser(description="What fusion edge run becomes.")
    parser.add_argument("plant", type=Path)
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--hang-s", type=float, default=HANG_S)
    told = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        supervise(told.plant, told.device, hang_s=told.hang_s)
    except FusionError as error:
        tell_log("error", type(error).__name__, str(error))
        sys.exit(75 if error.retriable else 2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
