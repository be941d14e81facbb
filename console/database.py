"""The tables of the console's own database, and the way from an older one to them.

SQLite by default, PostgreSQL by its URL. A release may add columns, never change or take one: what
an older database lacks is added when it is opened.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
import sqlalchemy.event as sql_event
from sqlalchemy.schema import CreateColumn

MAX_TEXT = 500

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


def open_database(url: str) -> sql.Engine:
    """Return the database at ``url``, with every table and column in it."""
    engine = sql.create_engine(url)
    if engine.dialect.name == "sqlite":
        sql_event.listen(engine, "connect", _write_ahead)
    META.create_all(engine)
    with engine.begin() as db:
        for table in META.sorted_tables:
            there = {column["name"] for column in sql.inspect(db).get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:
                    described = CreateColumn(column).compile(dialect=engine.dialect)
                    db.execute(sql.text(f'ALTER TABLE "{table.name}" ADD COLUMN {described}'))
    return engine


def _write_ahead(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
