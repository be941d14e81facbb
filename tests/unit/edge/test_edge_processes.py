"""Real processes: one that crashes or hangs is started again, and the others do not notice."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from connectors.system_clock import SystemClock
from flows.edge import Edge
from flows.edge_device import PositionFile
from flows.settings import Settings
from fusion.errors import InputError
from tests.conftest import free_port
from tests.peers.modbus import ModbusPeer
from tests.peers.mqtt import JsonPeer
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import Peer, plant_with
from tests.peers.rtsp import RtspPeer
from tests.unit.edge.test_running import PLANT, TABLE

BEATS = "import os,sys,time\nfd=int(sys.argv[1])\n"
STEADY = BEATS + "while True:\n os.write(fd, b'\\n'); time.sleep(.05)"
CRASHES = BEATS + "os.write(fd, b'\\n'); os._exit(7)"
HANGS = BEATS + 'os.write(fd, b\'{"state": "connected", "why": ""}\\n\'); time.sleep(600)'
ENDS = BEATS + 'os.write(fd, b\'{"state": "ended", "why": ""}\\n\')'
STOPPED = BEATS + 'os.write(fd, b\'{"state": "connected", "why": ""}\\n\')'
GROUP = BEATS + (
    "import json\nwhy = str(os.getpgrp() == os.getpid())\n"
    "os.write(fd, json.dumps({'state': 'connected', 'why': why}).encode() + b'\\n')\n"
    "time.sleep(600)"
)
OTHER = TABLE | {"name": "other", "columns": [{"stream": "more", "tag": "speed", "column": "s"}]}
MORE = {
    "name": "more",
    "modality": "telemetry",
    "rate_hz": 1,
    "tags": [{"name": "speed", "unit": "rpm", "range": [0, 1]}],
}
TWO = PLANT.model_validate(
    plant_with(PLANT.streams[0].model_dump(), [TABLE]).model_dump()
    | {"streams": [PLANT.streams[0].model_dump(), MORE], "devices": [TABLE, OTHER]}
)


class Told:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def __call__(self, device: str, state: str, why: str) -> None:
        self.lines.append((device, state, why))

    def restarts(self, device: str) -> list[str]:
        return [why for name, state, why in self.lines if (name, state) == (device, "restarting")]


def run_until(edge: Edge, is_enough: Callable[[], bool]) -> None:
    t_end_s = time.monotonic() + 30
    try:
        while not is_enough():
            assert time.monotonic() < t_end_s
            edge.step(0.05)
    finally:
        edge.close()


def edge_of(programs: dict[str, str], told: Told, hang_s: float = 2.0) -> Edge:
    def command(device: str, descriptor: int) -> Sequence[str]:
        return [sys.executable, "-S", "-c", programs[device], str(descriptor)]

    return Edge(TWO, [], command=command, clock=SystemClock(), tell=told, hang_s=hang_s)


def test_a_crash_costs_one_device_only() -> None:
    told = Told()
    edge = edge_of({"table": CRASHES, "other": STEADY}, told)
    run_until(edge, lambda: len(told.restarts("table")) == 2)
    assert "status 7" in told.restarts("table")[0]
    assert told.restarts("other") == []


def test_a_hang_is_ended_and_the_process_started_again() -> None:
    told = Told()
    edge = edge_of({"table": HANGS, "other": STEADY}, told)
    run_until(edge, lambda: told.lines.count(("table", "connected", "")) == 2)
    assert "hung" in told.restarts("table")[0]
    assert told.restarts("other") == []


def test_it_is_done_when_every_device_has_ended() -> None:
    edge = edge_of({"table": ENDS, "other": ENDS}, Told())
    t_end_s = time.monotonic() + 30
    while edge.step(0.05):
        assert time.monotonic() < t_end_s
    edge.close()


def test_a_process_that_somebody_else_stopped_is_started_again() -> None:
    told = Told()
    edge = edge_of({"table": STOPPED, "other": STEADY}, told)
    run_until(edge, lambda: told.lines.count(("table", "connected", "")) == 2)
    assert "status 0" in told.restarts("table")[0]


def test_ctrl_c_in_a_terminal_does_not_reach_the_devices_past_their_supervisor() -> None:
    """A second signal would end them at once, with what they have read and not sent yet."""
    told = Told()
    edge = edge_of({"table": GROUP, "other": GROUP}, told)
    run_until(edge, lambda: len(told.lines) == 2)
    assert {why for _, _, why in told.lines} == {"True"}


def test_a_position_is_kept_whole_and_one_that_is_empty_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    file = PositionFile(Settings.load(), PLANT, PLANT.devices[0])
    assert file.load() is None
    file.save("far")
    file.save("farther")
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.load() == kept.read_text() == "farther"
    kept.write_text("")
    assert file.load() is None


def test_an_unknown_device_and_a_plant_without_any_are_explained() -> None:
    with pytest.raises(InputError, match=r"must describe the devices \['camera'\]"):
        Edge(PLANT, ["camera"], command=lambda *_: [], clock=SystemClock(), tell=Told())
    bare = plant_with(PLANT.streams[0].model_dump(), [])
    with pytest.raises(InputError, match="at least one device"):
        Edge(bare, [], command=lambda *_: [], clock=SystemClock(), tell=Told())


HEAVY = {"torch", "mlflow", "sklearn", "polars", "polars_runtime_32", "deltalake"}
HEAVY |= {"onnxruntime", "sqlalchemy"}
SPEAKING: dict[str, Callable[[Path], Peer]] = {
    "modbus": ModbusPeer,
    "mqtt": JsonPeer,
    "opcua": lambda folder: OpcUaPeer(folder, "asyncua"),
    "camera": lambda folder: RtspPeer(folder, "camera"),
}


@pytest.mark.parametrize("module", ["flows.edge_device", "flows.edge_supervisor"])
def test_a_process_of_the_edge_imports_no_model_and_no_lake(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", SPEAKING)
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_device_that_is_read_has_no_model_and_no_lake_in_memory(
    kind: str, broker: str, tmp_path: Path
) -> None:
    """What is only imported once it runs counts too: the sender, the protocol, the schemas.

    Python itself tells what is imported. (The maps of a process show libraries of machine code
    only, and mlflow has none.)
    """
    peer = SPEAKING[kind](tmp_path)  # (It is not started: connecting takes all imports, too.)
    plant_file = tmp_path / "plant.yaml"
    plant_file.write_text(yaml.safe_dump(peer.plant.model_dump(mode="json")), encoding="utf-8")
    environment = os.environ | {
        "FUSION_DATA_DIR": str(tmp_path / "out"),
        "FUSION_BROKER": broker,
        "FUSION_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    told_imports = tmp_path / "imports"
    reads, writes = os.pipe()
    command = [sys.executable, "-m", "flows.edge_device", str(plant_file), peer.device.name]
    with told_imports.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--beat-fd", str(writes)], env=environment, pass_fds=[writes], stderr=stderr
        )
    try:
        os.close(writes)
        with os.fdopen(reads, encoding="utf-8") as pipe:
            told = next((line for line in pipe if line.strip()), "nothing: it ended")
            assert '"connecting"' in told
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
    lines = told_imports.read_text(encoding="utf-8").splitlines()
    packages = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in lines
        if line.startswith("import time:")
    }
    assert {"numpy", "paho" if kind == "mqtt" else "fusion"} <= packages
    assert packages & HEAVY == set()
