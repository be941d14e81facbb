"""Real services and real recordings for the tests that need them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
KAFKA_SCRIPT = ROOT / "deploy" / "kafka" / "kafka.sh"
IS_CI = os.environ.get("CI") == "true"


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Apache Kafka on free ports, with a data folder of its own."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing and not IS_CI:
        pytest.skip(f"Apache Kafka needs Java 17 and Maven; not on this machine: {missing}")
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
