"""Log-in through an identity provider: who is on the way, and what the claims of one mean here."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence

import sqlalchemy as sql

from console.database import DEPARTURES, Database
from console.ports import SignOn
from console.rights import Grant
from console.secret_digest import digest
from fusion.errors import IdentityRefusedError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, Identity

PATIENCE_S = 600
"""So long somebody may take at the identity provider."""
MAX_DEPARTURES = 10_000
"""Strangers can begin a log-in: the oldest is forgotten."""


class Departures:
    """Who is at the identity provider now; shared by all consoles of one database."""

    def __init__(self, engine: Database, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def keep(self, kept: Mapping[str, str]) -> str:
        """Return the secret under which ``kept`` is found again, once, within ten minutes."""
        secret, now_s = secrets.token_urlsafe(32), self._now_s()
        with self._engine.begin() as db:
            row = {"secret": digest(secret), "kept": json.dumps(dict(kept))}
            written = db.execute(DEPARTURES.insert().values(until_s=now_s + PATIENCE_S, **row))
            newest = (written.inserted_primary_key or (0,))[0]
            is_old = (DEPARTURES.c.until_s < now_s) | (DEPARTURES.c.id <= newest - MAX_DEPARTURES)
            db.execute(DEPARTURES.delete().where(is_old))
        return secret

    def take(self, secret: str) -> dict[str, str] | None:
        """Return what was kept, and forget it; None where nothing is, or it took too long."""
        is_it = DEPARTURES.c.secret == digest(secret)
        with self._engine.begin() as db:
            row = db.execute(sql.select(DEPARTURES).where(is_it)).first()
            if row is None or not db.execute(DEPARTURES.delete().where(is_it)).rowcount:
                return None
        return json.loads(row.kept) if row.until_s > self._now_s() else None

    def _now_s(self) -> int:
        return self._clock.now_ns() // NANOSECONDS


def recognised(sign_on: SignOn, identity: Identity) -> tuple[str, tuple[Grant, ...]]:
    """Return the name of whom the provider knows, and what they may do here.

    Raises:
        IdentityRefusedError: They have no name, or no role that means anything here.
    """
    name = identity.claims.get(sign_on.name_claim)
    if not isinstance(name, str) or not name:
        raise IdentityRefusedError(
            f"the ID token must have the claim {sign_on.name_claim!r} with a name, and has none"
        )
    roles = _roles(identity.claims, sign_on.roles_claim.split("."))
    grants = tuple(sign_on.grants[role] for role in roles if role in sign_on.grants)
    if not grants:
        raise IdentityRefusedError(
            f"none of the roles of {name!r} gives one here; the claim {sign_on.roles_claim!r} of "
            "the ID token and FUSION_CONSOLE_OIDC_GRANTS say which do"
        )
    return name, grants


def _roles(claims: Mapping[str, object], path: Sequence[str]) -> list[str]:
    found: object = claims
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return [value for value in values if isinstance(value, str)]
