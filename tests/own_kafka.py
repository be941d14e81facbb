"""An Apache Kafka that one test may kill and start again, on its port and with its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import KAFKA_SCRIPT, free_port


@dataclass
class OwnKafka:
    """An Apache Kafka that a test may kill."""

    bootstrap: str
    environment: dict[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [KAFKA_SCRIPT, "start"], env=self.environment, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        pid = int((Path(self.environment["KAFKA_DATA"]) / "kafka.pid").read_text())
        broker = psutil.Process(pid)
        broker.send_signal(signal.SIGKILL)
        broker.wait(30)


@contextlib.contextmanager
def kafka_to_kill(folder: Path) -> Iterator[OwnKafka]:
    """Yield one that does not run yet; stop it afterwards."""
    port = free_port()
    environment = os.environ | {
        "KAFKA_PORT": str(port),
        "KAFKA_CONTROLLER_PORT": str(free_port()),
        "KAFKA_DATA": str(folder / "kafka"),
    }
    made = OwnKafka(f"127.0.0.1:{port}", environment)
    try:
        yield made
    finally:
        subprocess.run([KAFKA_SCRIPT, "stop"], env=environment, check=True, timeout=60)
