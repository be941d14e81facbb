"""People, their sessions, tokens of machines, and the journal of who did what: one SQL database.

SQLite by default, PostgreSQL by its URL. Passwords are kept as Argon2id hashes, session and token
secrets as SHA-256 (they are random, so a fast hash is enough); whoever steals the file logs in as
nobody.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sql
import sqlalchemy.event as sql_event
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from console.rights import Grant, Person, Role
from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock

SESSION_S = 12 * 3_600
"""A shift: nobody stays logged in longer."""
IDLE_S = 3_600
MIN_PASSWORD = 12
"""NIST SP 800-63B asks for length and for nothing else."""
MAX_PASSWORD = 256
MAX_TEXT = 500
MAX_LINES = 100_000
"""Of the journal of access: strangers can make it grow."""

_META = sql.MetaData()
_PEOPLE = sql.Table(
    "people",
    _META,
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("password", sql.String(256), nullable=False),
    sql.Column("grants", sql.Text, nullable=False),
)
_SESSIONS = sql.Table(
    "sessions",
    _META,
    sql.Column("secret", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("csrf", sql.String(64), nullable=False),
    sql.Column("until_s", sql.BigInteger, nullable=False),
    sql.Column("seen_s", sql.BigInteger, nullable=False),
)
_TOKENS = sql.Table(
    "tokens",
    _META,
    sql.Column("secret", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False, unique=True),
    sql.Column("grants", sql.Text, nullable=False),
)
_ACCESS = sql.Table(
    "access",
    _META,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("t_ns", sql.BigInteger, nullable=False),
    sql.Column("who", sql.String(64), nullable=False),
    sql.Column("what", sql.String(MAX_TEXT), nullable=False),
    sql.Column("outcome", sql.String(16), nullable=False),
    sql.Column("why", sql.String(MAX_TEXT), nullable=False),
    sql.Column("address", sql.String(64), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in."""

    person: Person
    csrf: str
    """Must come back with everything that changes something."""


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the journal of access."""

    t_ns: int
    who: str
    what: str
    outcome: str
    why: str
    address: str


class Accounts:
    """The database of ``url``; its tables are made when they are not there."""

    def __init__(self, url: str, clock: Clock, *, hasher: PasswordHasher | None = None) -> None:
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        self._engine = sql.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sql_event.listen(self._engine, "connect", _write_ahead)
        _META.create_all(self._engine)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def close(self) -> None:
        """Free the database."""
        self._engine.dispose()

    def first_admin(self) -> str | None:
        """Make the person ``admin`` where there is nobody, and return the password; else None."""
        with self._engine.connect() as db:
            if db.execute(sql.select(sql.func.count()).select_from(_PEOPLE)).scalar_one():
                return None
        password = secrets.token_urlsafe(15)
        self.add_person("admin", password, [Grant(Role.ADMIN)])
        return password

    def add_person(self, name: str, password: str, grants: Sequence[Grant]) -> None:
        """Add a person, or give one another password and other grants; ends their sessions.

        Raises:
            InputError: The name or the password breaks a rule.
        """
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise InputError(f"a name must have 1 to 64 printable characters, got {name!r}")
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InputError(
                f"a password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters, got "
                f"{len(password)}; several words are easy to remember"
            )
        row = {"password": self._hasher.hash(password), "grants": _dump(grants)}
        with self._engine.begin() as db:
            db.execute(_SESSIONS.delete().where(_SESSIONS.c.name == name))
            if not db.execute(
                _PEOPLE.update().where(_PEOPLE.c.name == name).values(**row)
            ).rowcount:
                db.execute(_PEOPLE.insert().values(name=name, **row))

    def check_password(self, name: str, password: str) -> Person | None:
        """Return the person whose password this is; None otherwise, after the same time."""
        with self._engine.connect() as db:
            row = db.execute(sql.select(_PEOPLE).where(_PEOPLE.c.name == name)).first()
        try:
            self._hasher.verify(self._nobody if row is None else row.password, password)
        except (VerifyMismatchError, InvalidHashError):
            return None
        return None if row is None else Person(row.name, _load(row.grants))

    def open_session(self, name: str) -> str:
        """Return the secret of a new session of ``name``, to be kept in a cookie."""
        secret, now_s = secrets.token_urlsafe(32), self._now_s()
        with self._engine.begin() as db:
            db.execute(_SESSIONS.delete().where(_SESSIONS.c.until_s < now_s))
            db.execute(
                _SESSIONS.insert().values(
                    secret=_digest(secret),
                    name=name,
                    csrf=secrets.token_urlsafe(24),
                    until_s=now_s + SESSION_S,
                    seen_s=now_s,
                )
            )
        return secret

    def session(self, secret: str) -> Session | None:
        """Return the session of ``secret``; None when there is none, or it has expired."""
        now_s, key = self._now_s(), _digest(secret)
        with self._engine.begin() as db:
            row = db.execute(
                sql.select(_SESSIONS, _PEOPLE.c.grants)
                .join(_PEOPLE, _PEOPLE.c.name == _SESSIONS.c.name)
                .where(_SESSIONS.c.secret == key)
            ).first()
            if row is None or row.until_s <= now_s or row.seen_s + IDLE_S <= now_s:
                return None
            if now_s - row.seen_s > 60:
                db.execute(_SESSIONS.update().where(_SESSIONS.c.secret == key).values(seen_s=now_s))
        return Session(Person(row.name, _load(row.grants)), row.csrf)

    def end_session(self, secret: str) -> None:
        """Forget the session of ``secret``."""
        with self._engine.begin() as db:
            db.execute(_SESSIONS.delete().where(_SESSIONS.c.secret == _digest(secret)))

    def add_token(self, name: str, grants: Sequence[Grant]) -> str:
        """Return a new token for the machine ``name``; an older one of that name ends."""
        token = secrets.token_urlsafe(32)
        with self._engine.begin() as db:
            db.execute(_TOKENS.delete().where(_TOKENS.c.name == name))
            db.execute(
                _TOKENS.insert().values(secret=_digest(token), name=name, grants=_dump(grants))
            )
        return token

    def machine(self, token: str) -> Person | None:
        """Return whose ``token`` this is; None when it is nobody's."""
        with self._engine.connect() as db:
            row = db.execute(sql.select(_TOKENS).where(_TOKENS.c.secret == _digest(token))).first()
        return None if row is None else Person(row.name, _load(row.grants), is_machine=True)

    def note(self, who: str, what: str, outcome: str, *, why: str = "", address: str = "") -> None:
        """Write a line into the journal of access."""
        line = Access(
            self._clock.now_ns(), who[:64], what[:MAX_TEXT], outcome, why[:MAX_TEXT], address[:64]
        )
        with self._engine.begin() as db:
            written = db.execute(_ACCESS.insert().values(**asdict(line)))
            newest = (written.inserted_primary_key or (0,))[0]
            db.execute(_ACCESS.delete().where(_ACCESS.c.id <= newest - MAX_LINES))

    def journal(self, *, most: int = 200) -> list[Access]:
        """Return the newest lines of the journal of access, the newest first."""
        query = sql.select(_ACCESS).order_by(_ACCESS.c.id.desc()).limit(most)
        with self._engine.connect() as db:
            return [
                Access(r.t_ns, r.who, r.what, r.outcome, r.why, r.address)
                for r in db.execute(query)
            ]

    def _now_s(self) -> int:
        return self._clock.now_ns() // NANOSECONDS


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _dump(grants: Sequence[Grant]) -> str:
    return json.dumps([[grant.role.name.lower(), grant.area] for grant in grants])


def _load(text: str) -> tuple[Grant, ...]:
    return tuple(Grant(Role[role.upper()], area) for role, area in json.loads(text))


def _write_ahead(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's own type
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
