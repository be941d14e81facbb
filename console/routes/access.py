"""For administrators: people, tokens, and the journal of access."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from console.accounts import Session
from console.guard import Asker, accounts_of, client_of, require_admin
from console.rendering import page
from console.rights import Grant, parse_grant
from console.tokens import DEFAULT_DAYS
from fusion.errors import InputError

router = APIRouter(prefix="/access", include_in_schema=False)
Name = Annotated[str, Form(min_length=1, max_length=64)]
Area = Annotated[str, Form(max_length=500)]


@router.get("")
def access(request: Request, session: Asker) -> Response:
    """Return people, tokens, the journal of access, and the forms."""
    require_admin(request, session.person)
    return _page(request, session, "", "")


@router.post("/people")
def add_person(  # noqa: PLR0917 a form's fields are its parameters
    request: Request,
    session: Asker,
    name: Name,
    password: Annotated[str, Form(max_length=256)],
    role: Annotated[str, Form()],
    area: Area = "",
) -> Response:
    """Add a person, or give one another password and role."""
    require_admin(request, session.person)
    with _noted(request, session, f"person {name}: {role} of {area or 'everything'}"):
        accounts_of(request).add_person(name, password, [_grant(role, area)])
    return _page(request, session, f"{name} can log in now.", "")


@router.post("/people/{action}")
def change_person(
    request: Request, session: Asker, action: Literal["disable", "enable", "remove"], name: Name
) -> Response:
    """Shut a person out, let them in again, or forget them; at once, and with their sessions."""
    require_admin(request, session.person)
    accounts = accounts_of(request)
    with _noted(request, session, f"{action} person {name}"):
        if name == session.person.name:
            raise InputError("nobody can do that to themselves; ask another administrator")
        if action == "remove":
            accounts.remove(name)
        else:
            accounts.set_disabled(name, is_disabled=action == "disable")
    done = {"disable": "is shut out", "enable": "can log in again", "remove": "is removed"}
    return _page(request, session, f"{name} {done[action]}.", "")


@router.post("/tokens")
def add_token(  # noqa: PLR0917 as above
    request: Request,
    session: Asker,
    name: Name,
    role: Annotated[str, Form()],
    area: Area = "",
    days: Annotated[int, Form()] = DEFAULT_DAYS,
) -> Response:
    """Make a token for a machine, shown once."""
    require_admin(request, session.person)
    what = f"token {name}: {role} of {area or 'everything'}, {days} days"
    with _noted(request, session, what):
        token = accounts_of(request).tokens.add(
            name, [_grant(role, area)], days=days, made_by=session.person.name
        )
    return _page(request, session, f"The token of {name}, shown only now:", token)


@router.post("/tokens/revoke")
def revoke_token(request: Request, session: Asker, name: Name) -> Response:
    """End a token, at once."""
    require_admin(request, session.person)
    with _noted(request, session, f"revoke token {name}"):
        accounts_of(request).tokens.revoke(name)
    return _page(request, session, f"The token of {name} is revoked.", "")


@contextlib.contextmanager
def _noted(request: Request, session: Session, what: str) -> Iterator[None]:
    """Write down what was done, or why it was refused."""
    note, name, address = accounts_of(request).note, session.person.name, client_of(request)
    try:
        yield
    except InputError as refused:
        note(name, what, "refused", why=str(refused), address=address)
        raise
    note(name, what, "done", address=address)


def _grant(role: str, area: str) -> Grant:
    return parse_grant(f"{role}@{area}")


def _page(request: Request, session: Session, said: str, token: str) -> Response:
    accounts = accounts_of(request)
    return page(
        request,
        "access.html.j2",
        session,
        people=accounts.people(),
        tokens=accounts.tokens.all(),
        lines=accounts.journal(),
        said=said,
        token=token,
    )
