"""Tokens of machines: shown once, kept as hashes, each with an end."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sql

from console.database import PEOPLE, TOKENS, Database
from console.rights import Grant, Person, dump_grants, load_grants
from console.secret_digest import digest
from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock

DAY_S = 86_400
DEFAULT_DAYS = 90
MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; never the token itself."""

    name: str
    grants: tuple[Grant, ...]
    until_s: int
    made_by: str
    has_ended: bool


class Tokens:
    """The tokens in a database that :func:`console.database.open_database` opened."""

    def __init__(self, engine: Database, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def add(
        self, name: str, grants: Sequence[Grant], *, days: int = DEFAULT_DAYS, made_by: str = ""
    ) -> str:
        """Return a new token for the machine ``name``; an older one of that name ends.

        Raises:
            InputError: The name is no name, or a person's: the journals could not tell them apart.
        """
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise InputError(f"a token's name must have 1 to 64 printable characters, got {name!r}")
        if not 1 <= days <= MAX_DAYS:
            raise InputError(f"a token must end after 1 to {MAX_DAYS} days, got {days}")
        token = secrets.token_urlsafe(32)
        with self._engine.begin() as db:
            if db.execute(sql.select(PEOPLE.c.name).where(PEOPLE.c.name == name)).first():
                raise InputError(f"a token must not be named as a person is, got {name!r}")
            db.execute(TOKENS.delete().where(TOKENS.c.name == name))
            db.execute(
                TOKENS.insert().values(
                    secret=digest(token),
                    name=name,
                    grants=dump_grants(grants),
                    until_s=self._now_s() + days * DAY_S,
                    made_by=made_by[:64],
                )
            )
        return token

    def machine(self, token: str) -> Person | None:
        """Return whose ``token`` this is; None when it is nobody's, or has ended."""
        with self._engine.connect() as db:
            row = db.execute(sql.select(TOKENS).where(TOKENS.c.secret == digest(token))).first()
        if row is None or row.until_s <= self._now_s():
            return None
        return Person(row.name, load_grants(row.grants), is_machine=True)

    def all(self) -> list[Token]:
        """Return every token, also those that have ended, by name."""
        now_s = self._now_s()
        with self._engine.connect() as db:
            return [
                Token(
                    row.name,
                    load_grants(row.grants),
                    row.until_s,
                    row.made_by,
                    row.until_s <= now_s,
                )
                for row in db.execute(sql.select(TOKENS).order_by(TOKENS.c.name))
            ]

    def revoke(self, name: str) -> None:
        """End the token of the machine ``name``, at once.

        Raises:
            InputError: There is none.
        """
        with self._engine.begin() as db:
            if not db.execute(TOKENS.delete().where(TOKENS.c.name == name)).rowcount:
                raise InputError(f"a token to revoke must be there, and there is none of {name!r}")

    def _now_s(self) -> int:
        return self._clock.now_ns() // NANOSECONDS
