"""For administrators: people, tokens, and the journal of access."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from console.guard import Asker, accounts_of, client_of, require_admin
from console.rendering import page
from console.rights import Grant, Role
from fusion.errors import InputError

router = APIRouter(prefix="/access", include_in_schema=False)


@router.get("")
def access(request: Request, session: Asker) -> Response:
    """Return the journal of access, and the forms."""
    require_admin(request, session.person)
    return _page(request, session, "", "")


@router.post("/people")
def add_person(  # noqa: PLR0917 a form's fields are its parameters
    request: Request,
    session: Asker,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=256)],
    role: Annotated[str, Form()],
    area: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Add a person, or give one another password and role."""
    require_admin(request, session.person)
    grant = _grant(role, area)
    accounts_of(request).add_person(name, password, [grant])
    _note(request, session, f"person {name}: {role} at {area or 'everywhere'}")
    return _page(request, session, f"{name} can log in now.", "")


@router.post("/tokens")
def add_token(
    request: Request,
    session: Asker,
    name: Annotated[str, Form(min_length=1, max_length=64)],
    role: Annotated[str, Form()],
    area: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Make a token for a machine, shown once."""
    require_admin(request, session.person)
    token = accounts_of(request).add_token(name, [_grant(role, area)])
    _note(request, session, f"token {name}: {role} at {area or 'everywhere'}")
    return _page(request, session, f"The token of {name}, shown only now:", token)


def _grant(role: str, area: str) -> Grant:
    if role.upper() not in Role.__members__:
        raise InputError(
            f"a role must be one of {[r.name.lower() for r in Role]}, got {role[:40]!r}"
        )
    return Grant(Role[role.upper()], area.strip("/"))


def _page(request: Request, session: Asker, said: str, token: str) -> Response:
    lines = accounts_of(request).journal()
    return page(request, "access.html.j2", session, lines=lines, said=said, token=token)


def _note(request: Request, session: Asker, what: str) -> None:
    accounts_of(request).note(session.person.name, what, "done", address=client_of(request))
