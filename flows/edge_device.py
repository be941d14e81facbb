"""The process of one device: ``python -m flows.edge_device PLANT DEVICE --beat-fd N``.

``fusion edge run`` starts one for each device and starts it again when it ends or hangs. It tells
its parent through a pipe that it lives (an empty line), when its state changes, and every ten
seconds how it does (JSON).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from pathlib import Path

from flows import wiring
from flows.device_wiring import session_opener
from flows.logs import begin_service
from flows.plant_files import load_plant
from flows.schemas import publish_schemas
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.tracing import SendTracer, open_tracer
from fusion.edge import DeviceRun, State
from fusion.errors import FusionError
from fusion.plant import Plant
from fusion.plant.devices import Device
from fusion.schema import DeviceHealth
from fusion.stream.spool import SpoolingPublisher


class PositionFile:
    """Implements :class:`fusion.edge.Positions` with a file that is replaced whole."""

    def __init__(self, settings: Settings, plant: Plant, device: Device) -> None:
        self._path = settings.data_dir / "edge" / plant.prefix / f"{device.name}.position"

    def load(self) -> str | None:
        """Return what was saved last; None when nothing was."""
        try:
            return self._path.read_text(encoding="utf-8") or None
        except FileNotFoundError:
            return None

    def save(self, position: str) -> None:
        """Keep ``position``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".fresh")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(position)
            file.flush()
            # Or a loss of power may leave the new name with nothing in it.
            os.fsync(file.fileno())
        fresh.replace(self._path)


class _Parent:
    """The pipe to the parent. When nobody reads it any more, this process has to end."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self.is_gone = False

    def beat(self) -> None:
        self._write("")

    def tell(self, state: State, why: str) -> None:
        self._write(json.dumps({"state": state, "why": why[:2_000]}))

    def health(self, health: DeviceHealth, spool_bytes: int) -> None:
        said = {"health": health.model_dump(mode="json"), "spool_bytes": spool_bytes}
        self._write(json.dumps(said))

    def _write(self, line: str) -> None:
        try:
            self._pipe.write(f"{line}\n")
        except BrokenPipeError:
            self.is_gone = True


def run_device(plant: Plant, device: Device, settings: Settings, parent: _Parent) -> None:
    """Read ``device`` until somebody stops this process, its parent is gone, or nothing is left."""
    with (
        stop_on_signals() as should_stop,
        contextlib.closing(
            wiring.open_sender(settings, plant, source=f"edge-{device.name}")
        ) as publisher,
        open_tracer(settings, f"edge-{device.name}") as tracer,
    ):
        publish_schemas(plant, publisher)
        spool = publisher if isinstance(publisher, SpoolingPublisher) else None
        run = DeviceRun(
            plant,
            device,
            open_session=session_opener(plant, device),
            publisher=publisher,
            positions=PositionFile(settings, plant, device),
            clock=wiring.open_clock(),
            forward=lambda: None if spool is None else void(spool.flush(0.0)),
            num_waiting=lambda: 0 if spool is None else spool.waiting_records,
            on_state=parent.tell,
            on_health=lambda health: parent.health(
                health, 0 if spool is None else spool.waiting_bytes
            ),
            trace=tracer and SendTracer(tracer),
        )
        try:
            while not should_stop() and not parent.is_gone and run.step():
                parent.beat()
        finally:
            run.close()
        # What still waits for the broker stays on disk; a device that has ended has time for it.
        while spool is not None and not should_stop() and not parent.is_gone:
            parent.beat()
            if spool.flush(1.0):
                break


def void(_: object) -> None:
    """Return nothing."""


def main() -> None:
    """Read one device. Exit status 0 it has ended, 2 an input must be changed, 75 try again."""
    parser = argparse.ArgumentParser(description="Reads one device; fusion edge run starts it.")
    parser.add_argument("plant", type=Path)
    parser.add_argument("device")
    parser.add_argument("--beat-fd", type=int, required=True)
    told = parser.parse_args()
    # What libraries say of connections reaches people as our states, once and with the mend.
    for library in ("kafka", "asyncua", "pymodbus", "libav", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    parent = _Parent(told.beat_fd)
    parent.beat()
    try:
        plant, settings = load_plant(told.plant), Settings.load()
        begin_service(settings, f"edge-{told.device}")
        run_device(plant, plant.device(told.device), settings, parent)
    except FusionError as error:
        parent.tell("refused", f"{type(error).__name__}: {error}")
        sys.exit(75 if error.retriable else 2)


if __name__ == "__main__":
    main()
