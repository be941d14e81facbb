"""Real brokers that can be harmed: one, one with a small disk, three of which one can be away."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from tests.conftest import CLUSTER_SCRIPT, KAFKA_SCRIPT, ROOT, free_port

SMALL_DISK_MB = 192
BALLAST_BYTES = 1 << 20
HALT_PATIENCE_S = 20.0


class Broker:
    """One Apache Kafka with a data folder of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        port = free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self._environment = os.environ | {
            "KAFKA_PORT": str(port),
            "KAFKA_CONTROLLER_PORT": str(free_port()),
            "KAFKA_DATA": str(data),
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._call(KAFKA_SCRIPT, "start")

    def kill(self, _rng: random.Random) -> str:
        """SIGKILL: what was not on the disk of the broker is gone. Returns what was killed."""
        self.crash()
        return "the broker"

    def crash(self) -> None:
        """SIGKILL, and nothing else."""
        self._call(KAFKA_SCRIPT, "kill")

    def stop(self) -> None:
        """Stop it cleanly."""
        self._call(KAFKA_SCRIPT, "stop")

    def _call(self, script: Path, *command: str) -> None:
        (ROOT / ".services").mkdir(exist_ok=True)
        # Others on this machine may be fetching the same jars.
        lock = FileLock(ROOT / ".services" / "install.lock")
        with lock if command[0] == "start" else contextlib.nullcontext():
            subprocess.run(
                [script, *command],
                env=self._environment,
                check=True,
                timeout=300,
                stdout=subprocess.DEVNULL,
            )


class Cluster(Broker):
    """Three brokers, every topic on all of them, a write acknowledged by at least two."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        ports = [str(free_port()) for _ in range(3)]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)
        self._environment |= {
            "KAFKA_PORTS": " ".join(ports),
            "KAFKA_CONTROLLER_PORTS": " ".join(str(free_port()) for _ in range(3)),
        }
        self._down = ""

    def start(self) -> None:
        """Start all, or the one that is down."""
        self._call(CLUSTER_SCRIPT, "start", *([self._down] if self._down else []))
        self._down = ""

    def kill(self, rng: random.Random) -> str:
        """SIGKILL of one of the three."""
        self._down = rng.choice("123")
        self._call(CLUSTER_SCRIPT, "kill", self._down)
        return f"node {self._down}"

    def stop(self) -> None:
        """Stop all."""
        self._call(CLUSTER_SCRIPT, "stop")


class SmallDisk:
    """A disk of its own that can be filled to the last byte; needs the right to mount one."""

    def __init__(self, folder: Path, *, size_mb: int = SMALL_DISK_MB) -> None:
        self.folder = folder
        self._size_mb = size_mb
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        size = f"size={self._size_mb}m"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.folder],
            check=True,
            capture_output=True,
        )
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)

    def fill(self) -> None:
        """Write until nothing more fits."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for num_bytes in (BALLAST_BYTES, 4096, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(num_bytes)):
                        pass

    def free(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)


class FullDiskBroker(Broker):
    """One Apache Kafka whose log lies on a small disk."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.disk = SmallDisk(data / "log")

    def __enter__(self) -> Self:
        self.disk.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.disk.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self.disk.__exit__(None, None, None)

    def wait_until_halted(self) -> bool:
        """Return whether it has given up in time, as Kafka does without a disk to write on."""
        pid_file = self.data / "kafka.pid"
        pid = int(pid_file.read_text())
        until_s = time.monotonic() + HALT_PATIENCE_S
        while time.monotonic() < until_s:
            if not _is_alive(pid):
                pid_file.unlink()  # (it may be a zombie still, which the script takes for alive)
                return True
            time.sleep(0.05)
        return False


def _is_alive(pid: int) -> bool:
    # A process that nobody waits for stays a zombie where the machine's first process reaps none.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
