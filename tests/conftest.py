"""Real services and real recordings for the tests that need them."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
KAFKA_SCRIPT = ROOT / "deploy" / "kafka" / "kafka.sh"
S3_SCRIPT = ROOT / "deploy" / "s3" / "s3.sh"
IS_CI = os.environ.get("CI") == "true"


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Apache Kafka on free ports, with a data folder of its own."""
    require_java()
    port = free_port()
    environment = os.environ | {
        "KAFKA_PORT": str(port),
        "KAFKA_CONTROLLER_PORT": str(free_port()),
        "KAFKA_DATA": str(tmp_path_factory.mktemp("kafka")),
    }
    # Parallel test processes share the folder of the jars.
    (ROOT / ".services").mkdir(exist_ok=True)
    with FileLock(ROOT / ".services" / "install.lock"):
        subprocess.run([KAFKA_SCRIPT, "start"], env=environment, check=True, timeout=300)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([KAFKA_SCRIPT, "stop"], env=environment, check=True, timeout=60)


@dataclass(frozen=True)
class S3Server:
    """A server of our own: its data outlive a stop."""

    data: Path
    keystore: Path | None = None
    port: int = field(default_factory=free_port)
    bucket: str = "objects-of-tests"
    access_key: str = "tests"
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def endpoint(self) -> str:
        scheme = "http" if self.keystore is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        # Parallel test processes share the folder of the jars.
        (ROOT / ".services").mkdir(exist_ok=True)
        with FileLock(ROOT / ".services" / "install-s3.lock"):
            self._run("start", timeout_s=300)

    def stop(self) -> None:
        self._run("stop", timeout_s=60)

    def _run(self, action: str, *, timeout_s: float) -> None:
        environment = os.environ | {
            "S3_PORT": str(self.port),
            "S3_DATA": str(self.data),
            "S3_BUCKET": self.bucket,
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "S3_KEYSTORE": "" if self.keystore is None else str(self.keystore),
        }
        subprocess.run([S3_SCRIPT, action], env=environment, check=True, timeout=timeout_s)


def require_java() -> None:
    """Skip where a Java service cannot be had; in CI it must be there."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing and not IS_CI:
        pytest.skip(f"the service needs Java 17 and Maven; not on this machine: {missing}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3-compatible server on a free port, with an empty bucket."""
    require_java()
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings that the product must not ship."""
    folder = Path(os.environ.get("FUSION_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are not on this machine: {folder} does not exist")
    return folder


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, for topics and groups."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode and not IS_CI:
        pytest.skip(f"a disk that can be full needs the right to mount one: {mounted.stderr}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
