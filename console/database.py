"""The tables of the console's own database, and the way from an older one to them.

SQLite by default, PostgreSQL by its URL. A release may add columns, never change or take one: what
an older database lacks is added when it is opened.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import sqlalchemy as sql
import sqlalchemy.event as sql_event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateColumn

from console.postgres import PostgresDatabase
from fusion.errors import SettingsError

MAX_TEXT = 500
_PREPARING = 0x66757369
"""Any number that nobody else locks in this database."""

META = sql.MetaData()
PEOPLE = sql.Table(
    "people",
    META,
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("password", sql.String(256), nullable=False),  # "" of one who logs in elsewhere
    sql.Column("grants", sql.Text, nullable=False),
    sql.Column("is_disabled", sql.Integer, nullable=False, server_default="0"),
    sql.Column("subject", sql.String(MAX_TEXT), nullable=False, server_default=""),
)
"""``subject``: issuer and subject of who logs in through OpenID Connect, else empty."""
SESSIONS = sql.Table(
    "sessions",
    META,
    sql.Column("secret", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("csrf", sql.String(64), nullable=False),
    sql.Column("until_s", sql.BigInteger, nullable=False),
    sql.Column("seen_s", sql.BigInteger, nullable=False),
)
TOKENS = sql.Table(
    "tokens",
    META,
    sql.Column("secret", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False, unique=True),
    sql.Column("grants", sql.Text, nullable=False),
    sql.Column("until_s", sql.BigInteger, nullable=False, server_default="0"),
    sql.Column("made_by", sql.String(64), nullable=False, server_default=""),
)
"""A token of an earlier release has no end (0), and therefore ended: it is to be made anew."""
ACCESS = sql.Table(
    "access",
    META,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("t_ns", sql.BigInteger, nullable=False),
    sql.Column("who", sql.String(64), nullable=False),
    sql.Column("what", sql.String(MAX_TEXT), nullable=False),
    sql.Column("outcome", sql.String(16), nullable=False),
    sql.Column("why", sql.String(MAX_TEXT), nullable=False),
    sql.Column("address", sql.String(64), nullable=False),
)
DEPARTURES = sql.Table(
    "departures",
    META,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("secret", sql.String(64), nullable=False, unique=True),
    sql.Column("kept", sql.Text, nullable=False),
    sql.Column("until_s", sql.BigInteger, nullable=False),
)
"""People on their way to the identity provider and back."""


class Connection(Protocol):
    """A transaction."""

    def execute(self, statement: sql.Executable, /) -> sql.CursorResult[Any]:
        """Return what the database answers."""
        ...


class Database(Protocol):
    """What the console asks of a database, from any thread."""

    def begin(self) -> AbstractContextManager[Connection]:
        """Return a transaction that is kept where nothing is raised in it."""
        ...

    def connect(self) -> AbstractContextManager[Connection]:
        """Return a transaction that only reads."""
        ...

    def dispose(self) -> None:
        """Close every connection."""
        ...


def open_database(url: str) -> Database:
    """Return the database at ``url``, with every table and column in it.

    Raises:
        SettingsError: It is neither SQLite's nor PostgreSQL's. The message does not show it: it may
            hold a password.
        PeopleUnavailableError: PostgreSQL does not answer.
    """
    try:
        where = make_url(url)
    except ArgumentError:
        where = None
    kind = None if where is None else where.get_backend_name()
    if where is None or kind not in {"sqlite", "postgresql"}:
        raise SettingsError(
            "FUSION_CONSOLE_DATABASE must be like postgresql://user:password@host/name or "
            "sqlite:////folder/file, and what came (it is not shown) is not; mend it, or leave it "
            "out for a file in the data folder"
        )
    if kind == "postgresql":
        database = PostgresDatabase(where)
        database.prepare(_prepare)
        return database
    engine = sql.create_engine(where)
    sql_event.listen(engine, "connect", _write_ahead)
    with engine.begin() as db:
        _prepare(db)
    return engine


def _prepare(db: sql.Connection) -> None:
    if db.dialect.name == "postgresql":
        # Consoles that start at the same moment: one makes the tables, the others find them.
        db.execute(sql.select(sql.func.pg_advisory_xact_lock(_PREPARING)))
    META.create_all(db)
    for table in META.sorted_tables:
        there = {column["name"] for column in sql.inspect(db).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                described = CreateColumn(column).compile(dialect=db.dialect)
                db.execute(sql.text(f'ALTER TABLE "{table.name}" ADD COLUMN {described}'))


def _write_ahead(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
