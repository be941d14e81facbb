"""A real PostgreSQL for the tests: Debian's server in a folder of its own, on a free port."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

VERSIONS = Path("/usr/lib/postgresql")


def postgres_programs() -> Path | None:
    """Return the folder of the newest server on this machine; None without one."""
    found = sorted(VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@dataclass(frozen=True)
class PostgresServer:
    """A server that keeps its data across a stop; it listens on this machine only."""

    folder: Path
    port: int
    programs: Path
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    def create(self) -> None:
        """Make an empty data folder, owned by whoever may run the server: never root."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (self.folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = ["--auth=scram-sha-256", "--username=fusion", f"--pwfile={secret}", "--no-sync"]
        self._run("initdb", "--pgdata", str(self.folder / "data"), *options)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self._control("start", "--wait", "--log", log, "--options", options)

    def stop(self) -> None:
        """Stop it as a machine that goes down: connections end at once."""
        self._control("stop", "--wait", "--mode", "immediate")

    def new_database(self) -> str:
        """Return the address of an empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "fusion", name)
        return f"postgresql://fusion:{self.password}@127.0.0.1:{self.port}/{name}"

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), *words)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        if os.geteuid() == 0:
            runuser = shutil.which("runuser")
            assert runuser is not None, "Debian's util-linux has it"
            command = [runuser, "-u", "postgres", "--", *command]
        environment = os.environ | {"PGPASSWORD": self.password, "LC_ALL": "C"}
        subprocess.run(
            command, check=True, timeout=60, env=environment, stdout=subprocess.DEVNULL, cwd="/"
        )
