"""The parts of the stack: each is started, killed as a crash would, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from benchmarks.broker import ROOT
from flows.wiring import TritonServer
from tests.faults.brokers import Broker
from tests.postgres import PostgresServer

READY_S = 120.0
STOP_S = 30.0


class Part(Protocol):
    """Something that runs."""

    @property
    def name(self) -> str:
        """What a page calls it."""
        ...

    def start(self) -> None:
        """Start it, and return when it answers."""
        ...

    def kill(self) -> None:
        """End it with SIGKILL."""
        ...

    def stop(self) -> None:
        """End it cleanly, if it runs."""
        ...

    def memory_mb(self) -> float:
        """Return what it holds resident."""
        ...


class Program:
    """A program of which ``is_up`` says when it answers; its output goes to a log.

    It runs in ``folder``: where Python finds the product's packages first.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        is_up: Callable[[], bool] = lambda: True,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self._folder = folder
        self._command = list(command)
        self._log = log
        self._environment = os.environ | dict(environment or {})
        self._is_up = is_up
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the runner alone, which ends them in order.
                start_new_session=True,
            )
        wait_until(self._has_come_up, what=f"{self.name} (see {self._log.name})")

    def kill(self) -> None:
        """End it, and all that it started, with SIGKILL."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it cleanly; with SIGKILL what does not end."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._signal(signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def memory_mb(self) -> float:
        """Return what it and its children hold resident."""
        return 0.0 if self._process is None else resident_mb(self._process.pid)

    def _has_come_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2_000:]
            raise RuntimeError(f"{self.name} must run, but ended; it said:\n{tail}")
        return self._is_up()

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()


class Kafka:
    """One Apache Kafka."""

    name = "Kafka"

    def __init__(self, data: Path) -> None:
        data.mkdir()
        self._broker = Broker(data)
        self.bootstrap = self._broker.bootstrap

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._broker.start()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._broker.crash()

    def stop(self) -> None:
        """End it cleanly."""
        self._broker.stop()

    def memory_mb(self) -> float:
        """Return what it holds resident."""
        return resident_of_file(self._broker.data / "kafka.pid")


class Postgres:
    """A PostgreSQL server; its database outlives a kill."""

    name = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        server.create()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._server.start()

    def kill(self) -> None:
        """End it with SIGKILL: it recovers from its log at the next start."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._processes(), STOP_S)

    def stop(self) -> None:
        """End it."""
        with contextlib.suppress(subprocess.CalledProcessError):  # (it does not run)
            self._server.stop()

    def memory_mb(self) -> float:
        """Return what it holds resident."""
        return sum(_resident_mb(process) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            file = self._server.folder / "data" / "postmaster.pid"
            server = psutil.Process(int(file.read_text(encoding="utf-8").split()[0]))
            return [server, *server.children(recursive=True)]
        return []


class Triton:
    """The inference server."""

    name = "Triton"

    def __init__(self, server: TritonServer) -> None:
        self._server = server

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._server.start()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def memory_mb(self) -> float:
        """Return what it holds resident."""
        pid = self._server.status().pid
        return 0.0 if pid is None else resident_mb(pid)


def wait_until(is_so: Callable[[], bool], *, what: str, patience_s: float = READY_S) -> None:
    """Return when ``is_so``.

    Raises:
        RuntimeError: It did not become so in time.
    """
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{what} must be there within {patience_s:g} s, and is not")
        time.sleep(0.2)


def answers(url: str) -> Callable[[], bool]:
    """Return what says whether ``url`` answers with success."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    return ask


def fusion(*words: str) -> list[str]:
    """Return the command line of a command of the product."""
    return [sys.executable, "-m", "flows.cli", *words]


def resident_of_file(pid_file: Path) -> float:
    """Return what the process of a pid file holds resident, in MB; 0 without one."""
    with contextlib.suppress(OSError, ValueError):
        return resident_mb(int(pid_file.read_text(encoding="utf-8")))
    return 0.0


def resident_mb(pid: int) -> float:
    """Return what a process and its children hold resident, in MB; 0 when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return sum(_resident_mb(each) for each in [process, *process.children(recursive=True)])
    return 0.0


def _resident_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.memory_info().rss / 1e6
    return 0.0
