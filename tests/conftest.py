"""Real services and real recordings for the tests that need them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from filelock import FileLock

import flows  # noqa: F401  # (first: it says how threads wait, before a test loads PyTorch)
from connectors.triton_io import TritonServer
from tests.postgres import PostgresServer, postgres_programs

ROOT = Path(__file__).parent.parent
collect_ignore = ["peers/rtsp_server.py"]
"""It runs in Debian's Python, which has GStreamer's bindings."""
KAFKA_SCRIPT = ROOT / "deploy" / "kafka" / "kafka.sh"
S3_SCRIPT = ROOT / "deploy" / "s3" / "s3.sh"
CLUSTER_SCRIPT = ROOT / "deploy" / "kafka" / "kafka-cluster.sh"
IS_CI = os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach the processes of tests, also where these run in the background of a script.

    A shell starts what runs in the background with that signal ignored, and children inherit it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(TellsFailuresAtOnce(config))


class TellsFailuresAtOnce:
    """A run that is cut off has said why by then; the process that gathers results does it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what failed, and how."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n{report.when} of {report.nodeid} failed:")
            terminal.write_line(report.longreprtext)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, and make what a file shares once.

    No worker is left alone with something long at the end. Of equal rank the shuffled order is
    kept. Whatever names no group stays with the others of its file, on one worker.
    """
    items.sort(key=_rank)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def _rank(item: pytest.Item) -> int:
    """Of the suite's folders, those first whose tests wait for services; shared ones before all."""
    kinds = ("e2e", "integration", "contract")
    parts = item.path.relative_to(ROOT).parts
    place = next((n for n, kind in enumerate(kinds) if kind in parts), len(kinds))
    return place if item.get_closest_marker("xdist_group") else place + len(kinds) + 1


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_kafka(script: Path, *command: str, environment: dict[str, str]) -> None:
    """Run a script of ``deploy/kafka``; parallel test processes share the folder of the jars."""
    require_java()
    (ROOT / ".services").mkdir(exist_ok=True)
    with FileLock(ROOT / ".services" / "install.lock") if command[0] == "start" else nullcontext():
        subprocess.run([script, *command], env=os.environ | environment, check=True, timeout=300)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Apache Kafka on free ports, with a data folder of its own."""
    port = free_port()
    environment = {
        "KAFKA_PORT": str(port),
        "KAFKA_CONTROLLER_PORT": str(free_port()),
        "KAFKA_DATA": str(tmp_path_factory.mktemp("kafka")),
    }
    run_kafka(KAFKA_SCRIPT, "start", environment=environment)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        run_kafka(KAFKA_SCRIPT, "stop", environment=environment)


@dataclass(frozen=True)
class SecureKafka:
    """A broker that speaks TLS only: one port wants a password, the other a certificate."""

    sasl_bootstrap: str
    mtls_bootstrap: str
    ca_file: Path
    other_ca_file: Path
    """An authority that signed nothing here."""
    cert_file: Path
    key_file: Path
    username: str
    password: str


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A real Apache Kafka that asks who is there, with certificates made for this session."""
    folder = tmp_path_factory.mktemp("secure-kafka")
    authority = trustme.CA()
    write_pem(folder / "server", authority.issue_cert("127.0.0.1", "localhost"))
    write_pem(folder / "client", authority.issue_cert("client.example"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    keystore = (folder / "server.key").read_bytes() + (folder / "server.crt").read_bytes()
    (folder / "server.pem").write_bytes(keystore)
    port, sasl_port, password = free_port(), free_port(), uuid.uuid4().hex
    environment = {
        "KAFKA_PORT": str(port),
        "KAFKA_SASL_PORT": str(sasl_port),
        "KAFKA_CONTROLLER_PORT": str(free_port()),
        "KAFKA_DATA": str(folder / "data"),
        "KAFKA_KEYSTORE_FILE": str(folder / "server.pem"),
        "KAFKA_TRUSTSTORE_FILE": str(folder / "ca.pem"),
        "KAFKA_USERS": f"fusion:{password}",
    }
    run_kafka(KAFKA_SCRIPT, "start", environment=environment)
    try:
        yield SecureKafka(
            sasl_bootstrap=f"127.0.0.1:{sasl_port}",
            mtls_bootstrap=f"127.0.0.1:{port}",
            ca_file=folder / "ca.pem",
            other_ca_file=folder / "other-ca.pem",
            cert_file=folder / "client.crt",
            key_file=folder / "client.key",
            username="fusion",
            password=password,
        )
    finally:
        run_kafka(KAFKA_SCRIPT, "stop", environment=environment)


def write_pem(path: Path, issued: trustme.LeafCert) -> None:
    """Write ``path``.key, in the PKCS #8 that Java reads, and ``path``.crt with its chain."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.with_suffix(".key").write_bytes(pkcs8)
    path.with_suffix(".crt").write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))


@dataclass(frozen=True)
class KafkaCluster:
    """Three nodes; whoever takes one away gives it back with ``start``."""

    bootstrap: str
    environment: dict[str, str]

    def start(self, node: int) -> None:
        """Start node 1, 2 or 3 again, with what it has stored."""
        run_kafka(CLUSTER_SCRIPT, "start", str(node), environment=self.environment)

    def stop(self, node: int) -> None:
        """Stop a node cleanly."""
        run_kafka(CLUSTER_SCRIPT, "stop", str(node), environment=self.environment)

    def kill(self, node: int) -> None:
        """End a node as a crash would."""
        run_kafka(CLUSTER_SCRIPT, "kill", str(node), environment=self.environment)


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three real nodes on free ports: replication 3, a write is acknowledged by at least 2."""
    ports = [str(free_port()) for _ in range(3)]
    environment = {
        "KAFKA_PORTS": " ".join(ports),
        "KAFKA_CONTROLLER_PORTS": " ".join(str(free_port()) for _ in range(3)),
        "KAFKA_DATA": str(tmp_path_factory.mktemp("kafka-cluster")),
    }
    try:
        run_kafka(CLUSTER_SCRIPT, "start", environment=environment)
        yield KafkaCluster(",".join(f"127.0.0.1:{port}" for port in ports), environment)
    finally:
        run_kafka(CLUSTER_SCRIPT, "stop", environment=environment)


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


TRITON_HOME = ROOT / ".services" / "triton"


def make_triton(folder: Path, **options: Any) -> TritonServer:
    """Return a Triton of its own, not started; skip where the server cannot be had, not in CI."""
    if not (TRITON_HOME / "triton.lock").is_file() and not IS_CI:
        pytest.skip(
            f"a real Triton must be in {TRITON_HOME}; deploy/triton/install.sh puts it there"
        )
    return TritonServer(
        home=TRITON_HOME,
        repository=folder / "repository",
        run_dir=folder / "run",
        grpc_port=free_port(),
        metrics_port=free_port(),
        **options,
    )


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A real Triton on free ports with an empty repository; whoever kills it starts it again."""
    server = make_triton(tmp_path_factory.mktemp("triton"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model version that nothing has trained, exported as training does it."""
    from tests.models import make_model

    return make_model(tmp_path_factory.mktemp("models") / "duo" / "1")


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
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL on a free port, with a data folder of its own."""
    programs = postgres_programs()
    if programs is None:
        assert not IS_CI, "deploy/prepare-tests.sh installs Debian's postgresql"
        pytest.skip("the history on PostgreSQL needs Debian's package postgresql")
    # Not in pytest's own folder: that is closed again and again to whoever runs the server.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = PostgresServer(Path(folder), free_port(), programs)
        server.create()
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
