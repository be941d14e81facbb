"""The console's database on PostgreSQL, as the synchronous code of the console asks it.

The driver speaks asyncio only. It runs in a loop of its own, in a thread of its own, and any number
of threads ask it at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from fusion.errors import InputError, PeopleUnavailableError

TIMEOUT_S = 5.0
_Result = TypeVar("_Result")


class PostgresConnection:
    """One connection, in a transaction."""

    def __init__(self, database: PostgresDatabase, connection: AsyncConnection) -> None:
        self._database, self._connection = database, connection

    def execute(self, statement: sql.Executable) -> sql.CursorResult[Any]:
        """Return what the database answers, all of it.

        Raises:
            PeopleUnavailableError: It does not answer.
            InputError: It takes no such text.
        """
        return self._database.run(self._connection.execute(statement))


class PostgresDatabase:
    """What the console uses of :class:`sqlalchemy.Engine`."""

    def __init__(self, url: URL) -> None:
        self._where = url.render_as_string(hide_password=True)
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            connect_args={"timeout": TIMEOUT_S, "command_timeout": TIMEOUT_S},
            pool_pre_ping=True,
            pool_timeout=TIMEOUT_S,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="console-postgres", daemon=True
        )
        self._thread.start()

    @contextmanager
    def begin(self) -> Iterator[PostgresConnection]:
        """Yield a connection; what was done is kept where nothing is raised."""
        with self._open() as connection:
            yield PostgresConnection(self, connection)
            self.run(connection.commit())

    @contextmanager
    def connect(self) -> Iterator[PostgresConnection]:
        """Yield a connection to read with."""
        with self._open() as connection:
            yield PostgresConnection(self, connection)

    def prepare(self, work: Callable[[sql.Connection], None]) -> None:
        """Do ``work`` in one transaction, as on any other database."""
        with self._open() as connection:
            self.run(connection.run_sync(work))
            self.run(connection.commit())

    def dispose(self) -> None:
        """Close every connection, and end the thread."""
        self.run(self._engine.dispose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, asked: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what ``asked`` comes to; waits for it.

        Raises:
            PeopleUnavailableError: The database does not answer, or lets nobody in.
            InputError: It takes no such text.
        """
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as failed:  # (a timeout is an OSError)
            if _is_text(failed):
                raise InputError("a text must have no character 0 in it; take it out") from failed
            raise PeopleUnavailableError(
                f"the console's people at {self._where} must answer, but "
                f"{type(failed).__name__}: {str(failed).partition(chr(10))[0][:300]}; check that "
                "it runs and lets this user in, then try again"
            ) from failed

    @contextmanager
    def _open(self) -> Iterator[AsyncConnection]:
        connection = self.run(self._connected())
        try:
            yield connection
        finally:
            self.run(connection.close())  # (takes back what was not committed)

    async def _connected(self) -> AsyncConnection:
        return await self._engine.connect()


def _is_text(failed: BaseException) -> bool:
    """Return whether a text was refused: SQL's classes 22021 and 22P05, or what has no UTF-8."""
    if isinstance(failed, DataError):
        return True
    state = getattr(failed.orig, "sqlstate", None) if isinstance(failed, DBAPIError) else None
    return state in {"22021", "22P05"}
