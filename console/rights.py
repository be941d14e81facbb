"""Who may do what, and where: roles, granted for a part of the plant.

A grant names a role and an area: the beginning of an ISA-95 address, whole levels only; an empty
one is everywhere. The highest role that any grant gives at an address counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from fusion.errors import InputError


class Role(IntEnum):
    """Each may do all that those before it may."""

    VIEWER = 1
    """Looks."""
    OPERATOR = 2
    """Acknowledges, shelves, comments, judges."""
    ENGINEER = 3
    """Also asks what-if and looks after models."""
    ADMIN = 4
    """Also people, tokens, and the journal of access."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in an area."""

    role: Role
    area: str = ""

    def covers(self, address: str) -> bool:
        """Whether ``address`` lies in the area.

        Example:
            >>> [Grant(Role.VIEWER, "a/b").covers(x) for x in ("a/b/c", "a/b", "a/bc", "a")]
            [True, True, False, False]
        """
        return not self.area or address == self.area or address.startswith(f"{self.area}/")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, or a machine with a token, who is known to the console."""

    name: str
    grants: tuple[Grant, ...]
    is_machine: bool = False

    def role_at(self, address: str) -> Role | None:
        """Return the highest role at ``address``; None where the person may not even look."""
        return max((g.role for g in self.grants if g.covers(address)), default=None)

    def may(self, role: Role, address: str) -> bool:
        """Whether the person has ``role`` or a higher one at ``address``."""
        held = self.role_at(address)
        return held is not None and held >= role

    @property
    def is_admin(self) -> bool:
        """Whether the person is an administrator everywhere."""
        return any(g.role is Role.ADMIN and not g.area for g in self.grants)

    def visible(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return those of ``addresses`` that the person may look at."""
        return frozenset(a for a in addresses if self.may(Role.VIEWER, a))


def dump_grants(grants: Sequence[Grant]) -> str:
    """Return ``grants`` as the database keeps them."""
    return json.dumps([[grant.role.name.lower(), grant.area] for grant in grants])


def load_grants(text: str) -> tuple[Grant, ...]:
    """Return the grants that :func:`dump_grants` wrote."""
    return tuple(Grant(Role[role.upper()], area) for role, area in json.loads(text))


def parse_grant(text: str) -> Grant:
    """Return the grant that ``role`` or ``role@area`` says.

    Raises:
        InputError: There is no such role.

    Example:
        >>> parse_grant("operator@acme/north")
        Grant(role=<Role.OPERATOR: 2>, area='acme/north')
    """
    role, _, area = text.partition("@")
    if role.upper() not in Role.__members__:
        known = [each.name.lower() for each in Role]
        raise InputError(f"a role must be one of {known}, got {role[:40]!r}")
    return Grant(Role[role.upper()], area.strip("/"))
