"""A real tritonserver as a child of this machine: started, watched, ended with all it started.

The server is the one that ``deploy/triton/install.sh`` fetched. It listens on 127.0.0.1 unless told
otherwise, because whoever may load a model may run code. Its HTTP door stays shut: it has no TLS.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from connectors.triton_io.access import ClientTls, TritonAccess, is_answering, is_serving
from fusion.errors import InferenceUnavailableError, InputError

READY_PATIENCE_S = 60.0
STOP_PATIENCE_S = 15.0
LOG_TAIL_BYTES = 2_000
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 the kernel's place, which Triton chooses


_PLAIN = re.compile(r"[A-Za-z0-9_.,:=@%+/-]+")


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files (PEM) of the server's side of mutual TLS; ``client_ca_file`` signed its clients'."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a server: its process, and whether it answers."""

    pid: int | None
    is_serving: bool


@dataclass(frozen=True, slots=True)
class TritonServer:
    """A server with its repository, its ports and a folder for its log and process number."""

    home: Path
    repository: Path
    run_dir: Path
    grpc_port: int = 8001
    metrics_port: int = 8002
    host: str = "127.0.0.1"
    tls: ServerTls | None = None
    client_tls: ClientTls | None = None
    """By which we ask whether it serves; needed where it speaks TLS."""

    @property
    def log_file(self) -> Path:
        """What the server says."""
        return self.run_dir / "triton.log"

    @property
    def access(self) -> TritonAccess:
        """How a client on this machine reaches it."""
        return TritonAccess(f"{self.host}:{self.grpc_port}", self.client_tls)

    def start(self, *, patience_s: float = READY_PATIENCE_S) -> int:
        """Return the process number once the server is ready; one that runs is left as it is.

        Raises:
            InputError: The server is not installed, its port is taken, it ended at its start, one
            runs with other options, or others could reach it without a certificate.
            InferenceUnavailableError: It was not ready in time; it is ended again.
        """
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "start.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # (who comes second finds the first one's server)
            running = self._process()
            if running is None:
                return self._start(patience_s)
            self._require_same_options(running)
            return running.pid

    def _require_same_options(self, running: psutil.Process) -> None:
        """Return when the server that runs is the one that is asked for, mutual TLS above all."""
        has, asked = set(running.cmdline()[1:]), set(self._command()[1:])
        if has != asked:
            raise InputError(
                f"Triton runs already (process {running.pid}), with {' '.join(sorted(has - asked))}"
                f" where {' '.join(sorted(asked - has))} is asked for; stop it first"
            )

    def _require_guarded(self) -> None:
        """Return when strangers cannot load models: who can, runs code here."""
        if self.tls is None and not _is_here_only(self.host):
            raise InputError(
                f"a Triton that others reach must speak mutual TLS, and {self.host} is not this "
                "machine alone; give --cert, --key and --client-ca, or listen on 127.0.0.1"
            )

    def _start(self, patience_s: float) -> int:
        # (Where nobody listens this is over at once; a busy machine's server needs its time.)
        if is_answering(self.access, timeout_s=3.0):
            raise InputError(
                f"port {self.grpc_port} must be free, and another Triton answers there; stop it, "
                "or give another port"
            )
        self.require_installed()
        self._require_guarded()
        for path in (self.home, self.repository):
            _require_plain(path.absolute())
        self.repository.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with self.log_file.open("wb") as log:
            child = subprocess.Popen(
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches us alone, and we end all that it started.
                start_new_session=True,
            )
        try:
            self._remember(child.pid)
            self._await_ready(child, patience_s)
        except BaseException:
            if child.poll() is None:
                self._end(psutil.Process(child.pid), signal.SIGKILL)
            else:  # It ended by itself; what it started and left may still be there.
                self._clear(child.pid)
            child.wait()
            raise
        child.returncode = 0  # It outlives this object, by intention: no warning about that.
        return child.pid

    def stop(self) -> bool:
        """End the server and every process that it started; False when none ran."""
        process = self._process()
        if process is None:
            return False
        self._end(process, signal.SIGTERM)
        return True

    def kill(self) -> None:
        """End it at once, as a crash would; its Python models go with it."""
        if (process := self._process()) is not None:
            self._end(process, signal.SIGKILL)

    def status(self) -> Status:
        """Return its process number, and whether it says that it is ready."""
        process = self._process()
        answers = process is not None and is_serving(self.access)
        return Status(None if process is None else process.pid, answers)

    def wait(self) -> None:
        """Return when the server has ended."""
        if (process := self._process()) is not None:
            process.wait()

    def require_installed(self) -> None:
        """Return when the server is there to be started.

        Raises:
            InputError: It is not; says how to get it.
        """
        if not self._binary.is_file():
            raise InputError(
                f"Triton must be installed to be started, and {self._binary} is not there; run "
                "deploy/triton/install.sh, or set FUSION_TRITON_HOME"
            )

    @property
    def _binary(self) -> Path:
        return self.home / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def _region(self) -> str:
        return f"fusion-triton-{self.grpc_port}-"

    def _command(self) -> list[str]:
        return [
            str(self._binary.absolute()),
            f"--model-repository={self.repository.absolute()}",
            "--model-control-mode=explicit",
            # Or a network that cannot be loaded keeps it from being ready, unloaded or not.
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            f"--backend-directory={(self.home / 'pytriton/tritonserver/backends').absolute()}",
            f"--backend-config=python,shm-region-prefix-name={self._region}",
            "--allow-http=false",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.grpc_port}",
            "--metrics-address=127.0.0.1",  # (plain HTTP)
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=5",
            *self._tls_options(),
        ]

    def _tls_options(self) -> Iterator[str]:
        if self.tls is not None:
            yield "--grpc-use-ssl=true"
            yield "--grpc-use-ssl-mutual=true"
            yield f"--grpc-server-cert={self.tls.cert_file.absolute()}"
            yield f"--grpc-server-key={self.tls.key_file.absolute()}"
            yield f"--grpc-root-cert={self.tls.client_ca_file.absolute()}"

    def _environment(self) -> dict[str, str]:
        """Return all that the server sees: a model's code gets none of our passwords."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.run_dir.absolute()),
            "LD_LIBRARY_PATH": str((self.home / "nvidia_pytriton.libs").absolute()),
            "PYTHONPATH": sysconfig.get_paths()["purelib"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _await_ready(self, child: subprocess.Popen[bytes], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise InputError(
                    f"Triton ended at its start with {child.returncode}; its last words: "
                    f"{self._last_words()}"
                )
            if is_serving(self.access, timeout_s=0.5):
                return
            time.sleep(0.1)
        raise InferenceUnavailableError(
            f"Triton must be ready within {patience_s:.0f} s and was not; see {self.log_file}"
        )

    def _last_words(self) -> str:
        said = self.log_file.read_bytes()[-LOG_TAIL_BYTES:]
        return said.decode(errors="replace").strip()

    @property
    def _pid_file(self) -> Path:
        return self.run_dir / "triton.pid"

    def _remember(self, pid: int) -> None:
        # Process numbers come round again; with its birth one means one process.
        born = psutil.Process(pid).create_time()
        self._pid_file.write_text(json.dumps({"pid": pid, "born": born}), encoding="utf-8")

    def _process(self) -> psutil.Process | None:
        try:
            kept = json.loads(self._pid_file.read_text(encoding="utf-8"))
            process = psutil.Process(kept["pid"])
            is_same = abs(process.create_time() - kept["born"]) < 0.01
            is_there = process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        return process if is_same and is_there else None

    def _end(self, process: psutil.Process, how: signal.Signals) -> None:
        """End ``process`` with all of its group, and take away what it leaves."""
        group = process.pid  # (its session is its own)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(how)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(timeout=STOP_PATIENCE_S)
        self._clear(group)

    def _clear(self, group: int) -> None:
        """Take away what a server has left: its group, its number, its shared memory."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        self._pid_file.unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the shared memory of a server that was killed: nobody else would."""
        for region in _SHARED_MEMORY.glob(f"{self._region}*"):
            region.unlink(missing_ok=True)


def _require_plain(path: Path) -> None:
    """Return when a shell takes ``path`` as it is: Triton gives it to one, and quotes nothing."""
    if not _PLAIN.fullmatch(str(path)):
        raise InputError(
            "a path that Triton starts its Python models from must hold letters, digits and "
            f"_ . , : = @ % + / - only, got {str(path)!r}: the server hands it to a shell as it "
            "is, and then waits for a model that never comes; set FUSION_TRITON_REPOSITORY or "
            "FUSION_TRITON_HOME to another folder"
        )


def _is_here_only(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
