"""The alarms' history in a database that SQLAlchemy speaks to: SQLite, or PostgreSQL.

One table. An entry's id is its key, so that what is appended again changes nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    desc,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from fusion.errors import AlarmLogUnavailableError, SettingsError
from fusion.ports import JournalEntry

TIMEOUT_S = 10.0
BATCH = 500
"""Rows in one statement: below SQLite's bound on parameters."""
_TABLE = Table(
    "alarm_journal",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("plant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("transition", String, nullable=False),
    Column("t_ns", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
    Column("line", LargeBinary, nullable=False),
    Index("alarm_journal_time", "plant", "t_ns"),
    Index("alarm_journal_chain", "plant", "number"),
)
_Result = TypeVar("_Result")


class SqlAlarmLog:
    """The journal in one table, created where it is not there yet.

    May be shared between threads; not to be called from a running event loop.
    """

    def __init__(self, url: URL) -> None:
        """Prepare for ``url``, as :func:`sqlite_url` or :func:`postgresql_url` makes it."""
        self._where = url.render_as_string(hide_password=True)
        self._is_postgres = url.get_backend_name() == "postgresql"
        self._folder = None if self._is_postgres else Path(url.database or "").parent
        timeout = {"timeout": TIMEOUT_S}
        self._engine = create_async_engine(url, connect_args=timeout, pool_pre_ping=True)
        if not self._is_postgres:
            event.listen(self._engine.sync_engine, "connect", _write_ahead)
        # Both drivers speak asyncio only; each log has a loop of its own.
        self._runner = asyncio.Runner()
        self._lock = threading.Lock()
        self._is_prepared = False

    def append(self, entries: Sequence[JournalEntry]) -> int:
        """Store what is new of ``entries``, all or none; see the port."""

        async def store(connection: AsyncConnection) -> int:
            num_new = 0
            for begin in range(0, len(entries), BATCH):
                rows = [_row(entry) for entry in entries[begin : begin + BATCH]]
                build = postgresql.insert if self._is_postgres else sqlite.insert
                statement = build(_TABLE).values(rows).on_conflict_do_nothing()
                told = await connection.execute(statement.returning(_TABLE.c.id))
                num_new += len(told.fetchall())
            return num_new

        return self._run(store) if entries else 0

    def read(
        self, *, plant: str, start_ns: int, end_ns: int, name: str | None = None, limit: int = 1_000
    ) -> list[JournalEntry]:
        """Return the newest entries of a time, oldest first; see the port."""
        columns = _TABLE.c
        asked = (
            select(_TABLE)
            .where(columns.plant == plant, columns.t_ns >= start_ns, columns.t_ns < end_ns)
            .order_by(desc(columns.t_ns), desc(columns.number), desc(columns.id))
            .limit(limit)
        )
        if name is not None:
            asked = asked.where(columns.name == name)

        async def find(connection: AsyncConnection) -> list[JournalEntry]:
            return [_entry(row) for row in (await connection.execute(asked)).fetchall()]

        return self._run(find)[::-1]

    def head(self, plant: str) -> JournalEntry | None:
        """Return the last link of a plant's chain; see the port."""
        columns = _TABLE.c
        asked = select(_TABLE).where(columns.plant == plant).order_by(desc(columns.number)).limit(1)

        async def find(connection: AsyncConnection) -> JournalEntry | None:
            row = (await connection.execute(asked)).first()
            return None if row is None else _entry(row)

        return self._run(find)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._runner.run(self._engine.dispose())
            self._runner.close()

    def _run(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, _Result]]) -> _Result:
        async def within() -> _Result:
            async with asyncio.timeout(TIMEOUT_S), self._engine.begin() as connection:
                if not self._is_prepared:
                    await connection.run_sync(_TABLE.metadata.create_all)
                done = await work(connection)
            self._is_prepared = True
            return done

        # (The driver would say so in a thread of its own, where nobody hears it.)
        if self._folder is not None and not self._folder.is_dir():
            raise AlarmLogUnavailableError(
                f"the folder of the alarms' history at {self._where} must answer, but it is not "
                "there; create it"
            )
        with self._lock:
            try:
                return self._runner.run(within())
            except (SQLAlchemyError, OSError) as failed:  # (a timeout is an OSError)
                raise AlarmLogUnavailableError(
                    f"the alarms' history at {self._where} must answer, but "
                    f"{type(failed).__name__}: {_first_line(failed)}; check that it runs and lets "
                    "this user in, then try again"
                ) from failed


def sqlite_url(path: Path) -> URL:
    """Return the address of a file of SQLite."""
    return URL.create("sqlite+aiosqlite", database=str(path))


def postgresql_url(text: str) -> URL:
    """Return the address that ``postgresql://user:password@host/database`` says.

    Raises:
        SettingsError: It is no such address. The message does not show it: it may hold a password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() != "postgresql" or not url.database:
        raise SettingsError(
            "the address of the alarms' history must be like postgresql://user:password@host/name, "
            "and what came (it is not shown) is not; mend it, or leave it out for SQLite"
        )
    return url.set(drivername="postgresql+asyncpg")


def _write_ahead(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _row(entry: JournalEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in JournalEntry.__slots__}


def _entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry(**{name: getattr(row, name) for name in JournalEntry.__slots__})


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
