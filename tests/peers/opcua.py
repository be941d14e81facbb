"""Two OPC UA stacks as peers: asyncua's server and node-opcua, in Python and in TypeScript."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from connectors.opcua import OpcUaSession
from fusion.plant.devices import Device, OpcUaDevice
from tests.conftest import IS_CI, ROOT, free_port
from tests.peers.peer import CLOCK, TELEMETRY, plant_with
from tests.peers.processes import ToldProcess

NODE_OPCUA = ROOT / ".services" / "node"


class OpcUaPeer:
    """A server with one tag in ``%`` from 0 to 100, and as many more as are asked for."""

    def __init__(
        self, folder: Path, stack: str, *, num_tags: int = 1, history: bool = False
    ) -> None:
        self.ahead_s = 0.0
        port = free_port()
        namespace = "urn:tests:plc"
        self.plant = plant_with(
            TELEMETRY,
            [
                {
                    "name": "plc",
                    "protocol": "opcua",
                    "endpoint": f"opc.tcp://127.0.0.1:{port}/plc",
                    "nodes": [
                        {
                            "node": f"nsu={namespace};s=Line1.Tag0",
                            "stream": "process",
                            "tag": "level",
                        }
                    ],
                    "watchdog_s": 2,
                    "timeout_s": 2,
                    "history": history,
                }
            ],
        )
        self.device: Device = self.plant.devices[0]
        if stack == "asyncua":
            program = [
                sys.executable,
                "-m",
                "tests.peers.opcua_server",
                str(port),
                str(num_tags),
                "-",
            ]
        else:
            require_node_opcua()
            script = ROOT / "tests" / "peers" / "node_opcua_server.js"
            program = ["node", str(script), str(port), str(num_tags)]
        self.server = ToldProcess(program, folder / "server.log")

    def open(self, position: str | None = None) -> OpcUaSession:
        assert isinstance(self.device, OpcUaDevice)
        return OpcUaSession(self.device, position, clock=CLOCK)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def say(self, value: float) -> None:
        self.server.tell(f"say {value} {self.ahead_s}")

    def say_bad(self, status: int) -> None:
        self.server.tell(f"bad {status:08x}")


def require_node_opcua() -> None:
    """Skip where node-opcua cannot be had; in CI it must be there (deploy/prepare-tests.sh)."""
    there = shutil.which("node") and (NODE_OPCUA / "node_modules" / "node-opcua-server").is_dir()
    if not there and not IS_CI:
        pytest.skip("node-opcua is not installed; deploy/prepare-tests.sh does it")
    assert there


def secured_server(port: int, certificates: Path) -> ToldProcess:
    """Return asyncua's server that trusts what lies in ``trusted`` and knows one user."""
    module = "tests.peers.opcua_server"
    program = [sys.executable, "-m", module, str(port), "1", str(certificates)]
    return ToldProcess(program, certificates / "server.log")


def secured_node_server(port: int, folder: Path, trusted: Path) -> ToldProcess:
    """Return node-opcua that trusts the certificate ``trusted`` and knows one user.

    Its own certificate is ``folder``/own/certs/certificate.pem, made when it starts.
    """
    require_node_opcua()
    known = folder / "trusted" / "certs"
    known.mkdir(parents=True)
    shutil.copy(trusted, known)
    script = ROOT / "tests" / "peers" / "node_opcua_server.js"
    return ToldProcess(["node", str(script), str(port), "1", str(folder)], folder / "server.log")
