"""pymodbus' server as a device with one level and some odd registers."""

from __future__ import annotations

import sys
from pathlib import Path

from connectors.modbus import ModbusSession
from fusion.plant.devices import Device, ModbusDevice
from tests.conftest import free_port
from tests.peers.peer import CLOCK, TELEMETRY, plant_with
from tests.peers.processes import ToldProcess


class ModbusPeer:
    """A device that has a float in holding registers 100 and 101."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        level = {"stream": "process", "tag": "level", "address": 100, "type": "float32"}
        told = {"host": "127.0.0.1", "port": port, "poll_s": 0.05, "timeout_s": 1}
        device = {"name": "plc", "protocol": "modbus-tcp", "registers": [level]} | told
        self.plant = plant_with(TELEMETRY, [device])
        self.device: Device = self.plant.devices[0]
        program = [sys.executable, "-m", "tests.peers.modbus_server", str(port)]
        self.server = ToldProcess(program, folder / "server.log")

    def open(self, position: str | None = None) -> ModbusSession:
        assert isinstance(self.device, ModbusDevice)
        return ModbusSession(self.device, clock=CLOCK)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def say(self, value: float) -> None:
        self.server.tell(f"say {value}")
