"""A real Kafka, with the script and the secrets of docker-compose.yml."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.compose.make_secrets import make_secrets
from flows.settings import Settings

ROOT = Path(__file__).parents[1]
LIBS = ROOT / ".services" / "kafka" / "libs"
PATIENCE_S = 120.0
PROGRAMS = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
}
"""What the container's scripts run; here they run the same jars."""


@dataclass(frozen=True)
class ComposedKafka:
    """A broker with TLS, passwords and an authorizer, and the folder of everybody's secrets."""

    secrets: Path
    bootstrap: str

    def settings(self, user: str, data_dir: Path) -> Settings:
        """Return the settings that the service of ``user`` has in docker-compose.yml."""
        return Settings(
            broker="kafka",
            data_dir=data_dir,
            kafka_bootstrap=self.bootstrap,
            kafka_security="sasl_ssl",
            kafka_ca_file=self.secrets / user / "ca.pem",
            kafka_username=user,
            kafka_password_file=self.secrets / user / "kafka-password",
        )


@contextmanager
def composed_kafka(folder: Path, free_port: Callable[[], int]) -> Iterator[ComposedKafka]:
    """Yield a broker below ``folder``; its jars must be there."""
    secrets, bin_dir, port = folder / "secrets", folder / "bin", free_port()
    make_secrets(secrets, now=datetime.now(UTC))
    bin_dir.mkdir()
    for name, program in PROGRAMS.items():
        script = bin_dir / name
        script.write_text(f'#!/bin/sh\nexec java -Xmx512m -cp "{LIBS}/*" {program} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {
        "KAFKA_BIN": str(bin_dir),
        "KAFKA_SECRETS": str(secrets / "kafka"),
        "KAFKA_DATA": str(folder / "data"),
        "KAFKA_CONFIG": str(folder / "server.properties"),
        "KAFKA_NAME": "localhost",
        "KAFKA_PORT": str(port),
        "KAFKA_CONTROLLER_PORT": str(free_port()),
        "KAFKA_INTERNAL_PORT": str(free_port()),
    }
    log = folder / "kafka.log"
    with log.open("wb") as out:
        broker = subprocess.Popen(
            ["sh", ROOT / "deploy" / "compose" / "kafka.sh"],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while b"Kafka Server started" not in log.read_bytes():
            assert broker.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline_s, log.read_text()[-4000:]
            time.sleep(0.2)
        yield ComposedKafka(secrets, f"localhost:{port}")
    finally:
        broker.terminate()
        broker.wait(60)
