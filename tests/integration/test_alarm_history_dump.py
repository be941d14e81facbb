"""The alarm history on PostgreSQL: set up as in docker-compose.yml, dumped, and restored."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from connectors.alarm_history import SqlAlarmLog, postgresql_url
from fusion.alarms.journal import HASH, NUMBER, PREVIOUS, Journal, broken_links
from fusion.ports import JournalEntry
from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("pg")


def lines(count: int) -> list[JournalEntry]:
    journal, entries = Journal(), []
    for number in range(1, count + 1):
        line = f"line {number}".encode()
        said = journal.enter(line)
        entries.append(
            JournalEntry(
                id=str(number),
                plant="p",
                name="leak",
                transition="raised",
                t_ns=number,
                number=int(said[NUMBER]),
                previous=said[PREVIOUS],
                hash=said[HASH],
                line=line,
            )
        )
    return entries


def everything(log: SqlAlarmLog) -> list[JournalEntry]:
    return log.read(plant="p", start_ns=0, end_ns=2**62)


def test_the_script_of_the_container_makes_databases_for_their_users_alone(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("prefect", "historian"):
        (tmp_path / user).write_text(f"word-of-'{user}")
    reach = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGPASSWORD": postgres.password}
    environment = os.environ | reach | {"SECRETS": str(tmp_path), "POSTGRES_USER": "fusion"}
    script = ROOT / "deploy" / "compose" / "databases.sh"
    subprocess.run(["sh", script], env=environment, check=True)
    # No password in the address: the driver takes it from the file, as the service does.
    passes = tmp_path / "pgpass"
    passes.write_text(f"127.0.0.1:{postgres.port}:*:historian:word-of-'historian\n")
    passes.chmod(0o400)
    monkeypatch.setenv("PGPASSFILE", str(passes))
    address = f"postgresql://historian@127.0.0.1:{postgres.port}"
    with closing(SqlAlarmLog(postgresql_url(f"{address}/history"))) as log:
        assert log.append(lines(3)) == 3
    told = subprocess.run(
        ["psql", f"{address}/prefect", "--command=SELECT 1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    assert told.returncode != 0
    assert "permission denied" in told.stderr


def test_a_dump_restores_the_journal_with_its_chain(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    before, after = postgres.new_database(), postgres.new_database()
    with closing(SqlAlarmLog(postgresql_url(before))) as log:
        log.append(lines(700))
    dump = tmp_path / "history.dump"
    environment = os.environ | {"PGPASSWORD": postgres.password}
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", without_password(before)],
        [
            "pg_restore", f"--dbname={without_password(after)}", "--single-transaction",
            "--no-owner", str(dump),
        ],
    ):  # fmt: skip
        subprocess.run(command, env=environment, check=True, timeout=60)
    with closing(SqlAlarmLog(postgresql_url(after))) as log:
        told = everything(log)
        assert told == lines(700)
        assert log.append(lines(701)) == 1, "known lines are not doubled, the journal goes on"
    links = [({NUMBER: str(e.number), PREVIOUS: e.previous, HASH: e.hash}, e.line) for e in told]
    assert broken_links(links) == []


def without_password(address: str) -> str:
    return re.sub(r":[^:/@]+@", "@", address)
