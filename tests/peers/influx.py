"""Debian's InfluxDB as a historian that a plant writes into."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from connectors.influxdb import InfluxSession
from fusion.plant.devices import Device, InfluxDevice
from tests.conftest import IS_CI, free_port
from tests.peers.peer import CLOCK, TELEMETRY, plant_with

INFLUXD = shutil.which("influxd") or "/usr/bin/influxd"
START_S = 60.0
DATABASE, MEASUREMENT = "plant", 'press "1"'


def require_influxdb() -> None:
    """Skip where it cannot be had; in CI it must be there (deploy/prepare-tests.sh)."""
    if not Path(INFLUXD).is_file():
        assert not IS_CI
        pytest.skip("influxdb is not installed; deploy/prepare-tests.sh does it")


class InfluxServer:
    """A server on free ports; with ``login`` only this user may come in."""

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        require_influxdb()
        self.port = free_port()
        self._login = login
        self._config = folder / "influxdb.conf"
        needs_login = "true" if login else "false"
        self._config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\n  dir = "{folder}/meta"\n'
            f'[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n'
            f'[http]\n  bind-address = "127.0.0.1:{self.port}"\n  log-enabled = false\n'
            f"  auth-enabled = {needs_login}\n[monitor]\n  store-enabled = false\n"
        )
        self._log = folder / "influxdb.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            command = [INFLUXD, "-config", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        t_end_s = time.monotonic() + START_S
        while True:
            try:
                self._make()
                break
            except requests.RequestException:
                assert time.monotonic() < t_end_s, self._log.read_text()[-2_000:]
                assert self._process.poll() is None, self._log.read_text()[-2_000:]
                time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def write(self, line: str) -> None:
        """Store one line of the line protocol; it is on disk afterwards."""
        self._post("write", {"db": DATABASE}, line)

    def _make(self) -> None:
        if self._login is not None:
            name, password = self._login
            made = f"CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"
            with requests.Session() as first:
                first.post(
                    f"http://127.0.0.1:{self.port}/query", params={"q": made}, timeout=10
                ).close()
        self._post("query", {"q": f"CREATE DATABASE {DATABASE}"}, "")

    def _post(self, path: str, params: dict[str, str], body: str) -> None:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with requests.Session() as session:
            session.trust_env = False
            session.auth = self._login
            with session.post(url, params=params, data=body.encode(), timeout=10) as answer:
                answer.raise_for_status()


class InfluxPeer:
    """A historian with one series of one field."""

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        self.server = InfluxServer(folder, login)
        source = {
            "stream": "process",
            "tag": "level",
            "measurement": MEASUREMENT,
            "field": "level",
            "where": {"line": "it's 1"},
        }
        device = {
            "name": "historian",
            "protocol": "influxdb",
            "url": f"http://127.0.0.1:{self.server.port}",
            "database": DATABASE,
            "poll_s": 0.05,
            "settle_s": 0,
            "timeout_s": 1,
            "fields": [source],
        } | ({} if login is None else {"login": {"username": login[0], "password_env": "PEER"}})
        self.plant = plant_with(TELEMETRY, [device])
        self.device: Device = self.plant.devices[0]

    def open(self, position: str | None = None, password: str | None = None) -> InfluxSession:
        assert isinstance(self.device, InfluxDevice)
        secret = None if password is None else SecretStr(password)
        return InfluxSession(self.device, position, clock=CLOCK, password=secret)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def say(self, value: float) -> None:
        self.say_field(json.dumps(value))

    def say_field(self, written: str) -> None:
        """Store what stands behind ``level=`` in the line protocol."""
        series = r'press\ "1",line=it' + r"'s\ 1"
        self.server.write(f"{series} level={written} {time.time_ns()}")
