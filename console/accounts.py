"""People, their sessions, and the journal of who did what: one SQL database.

Passwords are kept as Argon2id hashes, secrets of sessions as SHA-256; whoever steals the file logs
in as nobody. People of an identity provider have no password here, and the grants of their last
log-in. One administrator with a password always stays: the provider may be away.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sql
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from console.database import (
    ACCESS,
    MAX_TEXT,
    PEOPLE,
    SESSIONS,
    TOKENS,
    Connection,
    open_database,
)
from console.rights import Grant, Person, Role, dump_grants, load_grants
from console.secret_digest import digest
from console.tokens import Tokens
from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock

SESSION_S = 12 * 3_600
"""A shift: nobody stays logged in longer."""
IDLE_S = 3_600
MIN_PASSWORD = 12
"""NIST SP 800-63B asks for length and for nothing else."""
MAX_PASSWORD = 256
MAX_LINES = 100_000
"""Of the journal of access: strangers can make it grow."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in."""

    person: Person
    csrf: str
    """Must come back with everything that changes something."""


@dataclass(frozen=True, slots=True)
class Account:
    """What administrators see of a person."""

    name: str
    grants: tuple[Grant, ...]
    is_disabled: bool
    has_password: bool
    """Otherwise the identity provider says who it is."""


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
        self.engine = open_database(url)
        self.tokens = Tokens(self.engine, clock)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def close(self) -> None:
        """Free the database."""
        self.engine.dispose()

    def first_admin(self) -> str | None:
        """Make the person ``admin`` where there is nobody, and return the password; else None."""
        if self.people():
            return None
        password = secrets.token_urlsafe(15)
        self.add_person("admin", password, [Grant(Role.ADMIN)])
        return password

    def people(self) -> list[Account]:
        """Return everybody, by name."""
        with self.engine.connect() as db:
            return [
                Account(r.name, load_grants(r.grants), bool(r.is_disabled), bool(r.password))
                for r in db.execute(sql.select(PEOPLE).order_by(PEOPLE.c.name))
            ]

    def add_person(self, name: str, password: str, grants: Sequence[Grant]) -> None:
        """Add a person, or give one another password and other grants; ends their sessions.

        Raises:
            InputError: The name or the password breaks a rule, or nobody would be left to
                administer the console.
        """
        hashed = self._hashed(password)
        self._put(
            name,
            {"password": hashed, "grants": dump_grants(grants), "is_disabled": 0, "subject": ""},
        )

    def let_in(self, name: str, subject: str, grants: Sequence[Grant]) -> None:
        """Add a person of the identity provider, or give one the grants that it says now.

        Raises:
            InputError: The name is somebody else's here, or an administrator has disabled them.
        """
        with self.engine.connect() as db:
            row = db.execute(sql.select(PEOPLE).where(PEOPLE.c.name == name)).first()
        if row is not None and row.subject != subject:
            raise InputError(f"the name {name!r} is another person's here; ask an administrator")
        if row is not None and row.is_disabled:
            raise InputError(f"{name!r} is disabled; ask an administrator")
        self._put(
            name,
            {"password": "", "grants": dump_grants(grants), "is_disabled": 0, "subject": subject},
        )

    def set_disabled(self, name: str, *, is_disabled: bool) -> None:
        """Shut ``name`` out, at once, or let them in again.

        Raises:
            InputError: There is nobody of that name, or nobody would be left to administer.
        """
        with self.engine.begin() as db:
            had_admin = _has_admin(db)
            changed = db.execute(
                PEOPLE.update().where(PEOPLE.c.name == name).values(is_disabled=int(is_disabled))
            )
            _require_found(changed.rowcount, name)
            db.execute(SESSIONS.delete().where(SESSIONS.c.name == name))
            _require_admin_left(db, had_admin=had_admin)

    def remove(self, name: str) -> None:
        """Forget ``name``; what they did stays in the journals.

        Raises:
            InputError: There is nobody of that name, or nobody would be left to administer.
        """
        with self.engine.begin() as db:
            had_admin = _has_admin(db)
            _require_found(db.execute(PEOPLE.delete().where(PEOPLE.c.name == name)).rowcount, name)
            db.execute(SESSIONS.delete().where(SESSIONS.c.name == name))
            _require_admin_left(db, had_admin=had_admin)

    def set_password(self, name: str, password: str) -> None:
        """Give ``name`` another password, and end all their sessions.

        Raises:
            InputError: The password breaks a rule, or they log in through the identity provider.
        """
        hashed = self._hashed(password)
        with self.engine.begin() as db:
            is_local = (PEOPLE.c.name == name) & (PEOPLE.c.password != "")
            changed = db.execute(PEOPLE.update().where(is_local).values(password=hashed))
            if not changed.rowcount:
                raise InputError(
                    f"{name!r} must have a password here to change it; it is changed where they "
                    "log in"
                )
            db.execute(SESSIONS.delete().where(SESSIONS.c.name == name))

    def check_password(self, name: str, password: str) -> Person | None:
        """Return the person whose password this is; None otherwise, after the same time."""
        with self.engine.connect() as db:
            row = db.execute(sql.select(PEOPLE).where(PEOPLE.c.name == name)).first()
        may_enter = row is not None and bool(row.password) and not row.is_disabled
        try:
            self._hasher.verify(row.password if row and may_enter else self._nobody, password)
        except (VerifyMismatchError, InvalidHashError):
            return None
        return Person(row.name, load_grants(row.grants)) if row and may_enter else None

    def open_session(self, name: str) -> str:
        """Return the secret of a new session of ``name``, to be kept in a cookie."""
        secret, now_s = secrets.token_urlsafe(32), self._now_s()
        with self.engine.begin() as db:
            db.execute(SESSIONS.delete().where(SESSIONS.c.until_s < now_s))
            db.execute(
                SESSIONS.insert().values(
                    secret=digest(secret),
                    name=name,
                    csrf=secrets.token_urlsafe(24),
                    until_s=now_s + SESSION_S,
                    seen_s=now_s,
                )
            )
        return secret

    def session(self, secret: str) -> Session | None:
        """Return the session of ``secret``; None when there is none, or it has expired."""
        now_s, key = self._now_s(), digest(secret)
        with self.engine.begin() as db:
            row = db.execute(
                sql.select(SESSIONS, PEOPLE.c.grants)
                .join(PEOPLE, PEOPLE.c.name == SESSIONS.c.name)
                .where(SESSIONS.c.secret == key, PEOPLE.c.is_disabled == 0)
            ).first()
            if row is None or row.until_s <= now_s or row.seen_s + IDLE_S <= now_s:
                return None
            if now_s - row.seen_s > 60:
                db.execute(SESSIONS.update().where(SESSIONS.c.secret == key).values(seen_s=now_s))
        return Session(Person(row.name, load_grants(row.grants)), row.csrf)

    def end_session(self, secret: str) -> None:
        """Forget the session of ``secret``."""
        with self.engine.begin() as db:
            db.execute(SESSIONS.delete().where(SESSIONS.c.secret == digest(secret)))

    def note(self, who: str, what: str, outcome: str, *, why: str = "", address: str = "") -> None:
        """Write a line into the journal of access."""
        line = Access(
            self._clock.now_ns(),
            _storable(who)[:64],
            _storable(what)[:MAX_TEXT],
            outcome,
            _storable(why)[:MAX_TEXT],
            _storable(address)[:64],
        )
        with self.engine.begin() as db:
            written = db.execute(ACCESS.insert().values(**asdict(line)))
            newest = (written.inserted_primary_key or (0,))[0]
            db.execute(ACCESS.delete().where(ACCESS.c.id <= newest - MAX_LINES))

    def journal(self, *, most: int = 200) -> list[Access]:
        """Return the newest lines of the journal of access, the newest first."""
        query = sql.select(ACCESS).order_by(ACCESS.c.id.desc()).limit(most)
        with self.engine.connect() as db:
            return [
                Access(r.t_ns, r.who, r.what, r.outcome, r.why, r.address)
                for r in db.execute(query)
            ]

    def _put(self, name: str, row: dict[str, object]) -> None:
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise InputError(f"a name must have 1 to 64 printable characters, got {name!r}")
        with self.engine.begin() as db:
            if db.execute(sql.select(TOKENS.c.name).where(TOKENS.c.name == name)).first():
                raise InputError(f"a person must not be named as a token is, got {name!r}")
            had_admin = _has_admin(db)
            db.execute(SESSIONS.delete().where(SESSIONS.c.name == name))
            if not db.execute(PEOPLE.update().where(PEOPLE.c.name == name).values(**row)).rowcount:
                db.execute(PEOPLE.insert().values(name=name, **row))
            _require_admin_left(db, had_admin=had_admin)

    def _hashed(self, password: str) -> str:
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InputError(
                f"a password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters, got "
                f"{len(password)}; several words are easy to remember"
            )
        return self._hasher.hash(password)

    def _now_s(self) -> int:
        return self._clock.now_ns() // NANOSECONDS


def _storable(text: str) -> str:
    """Return ``text`` as every database takes it: strangers choose what a refused path says."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _require_found(num_changed: int, name: str) -> None:
    if not num_changed:
        raise InputError(f"a person to change must be there, and there is nobody named {name!r}")


def _has_admin(db: Connection) -> bool:
    """Return whether somebody with a password, who is not disabled, administers everything.

    Two who remove one another at the same moment wait for one another here (PostgreSQL).
    """
    local = (PEOPLE.c.is_disabled == 0) & (PEOPLE.c.password != "")
    asked = sql.select(PEOPLE.c.name, PEOPLE.c.grants).where(local).order_by(PEOPLE.c.name)
    rows = db.execute(asked.with_for_update())
    return any(Person(r.name, load_grants(r.grants)).is_admin for r in rows)


def _require_admin_left(db: Connection, *, had_admin: bool) -> None:
    """Undo, by raising inside the transaction, what takes the last administrator away."""
    if had_admin and not _has_admin(db):
        raise InputError(
            "one administrator of everything with a password must stay, and this is the last; "
            "make another one first"
        )
