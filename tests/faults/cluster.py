"""Real brokers that can be killed: one, or three of which one can be away."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import KAFKA_SCRIPT, free_port


class Broker:
    """One Apache Kafka with a data folder of its own."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._environment = os.environ | {
            "KAFKA_PORT": str(self._port),
            "KAFKA_CONTROLLER_PORT": str(free_port()),
            "KAFKA_DATA": str(data),
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._call("stop")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._call("start")

    def kill(self) -> None:
        """SIGKILL: what was not on the disk of the broker is gone."""
        os.kill(int((self._data / "kafka.pid").read_text()), signal.SIGKILL)

    def _call(self, verb: str) -> None:
        subprocess.run(
            [KAFKA_SCRIPT, verb],
            env=self._environment,
            check=True,
            timeout=300,
            stdout=subprocess.DEVNULL,
        )


class Cluster(Broker):
    """Three brokers, every topic on all of them."""
