"""What everybody may do for themselves: change their password."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from console.accounts import MAX_PASSWORD, Session
from console.guard import Asker, accounts_of, client_of, refuse
from console.rendering import page
from console.routes.login import let_in
from fusion.errors import InputError

router = APIRouter(prefix="/account", include_in_schema=False)


@router.get("")
def account(request: Request, session: Asker) -> Response:
    """Return who is logged in, what they may do, and the form."""
    return _page(request, session, "", "")


@router.post("/password")
async def change_password(
    request: Request,
    session: Asker,
    password: Annotated[str, Form(max_length=MAX_PASSWORD)],
    new_password: Annotated[str, Form(max_length=MAX_PASSWORD)],
) -> Response:
    """Give whoever asks another password; every other session of theirs ends.

    Who fails too often waits, as at the log-in: a session that somebody left open is no password.
    """
    accounts, state, name = accounts_of(request), request.app.state, session.person.name
    if session.person.is_machine:
        refuse(request, session.person, "a machine has no password")
    limit = state.failures_of_name
    if limit.wait_s(name) > 0:
        return _refused(request, session, "Too many failed attempts. Try again in some minutes.")
    limit.fail(name)
    loop = asyncio.get_running_loop()
    known = await loop.run_in_executor(state.hashing, accounts.check_password, name, password)
    if known is None:
        return _refused(request, session, "That is not your password.")
    limit.succeed(name)
    change = partial(accounts.set_password, name, new_password)
    try:
        await loop.run_in_executor(state.hashing, change)
    except InputError as wrong:
        return _refused(request, session, str(wrong))
    accounts.note(name, "change the own password", "done", address=client_of(request))
    answer = Response(status_code=204, headers={"HX-Redirect": "/account?changed=1"})
    return let_in(request, name, answer)


def _refused(request: Request, session: Session, why: str) -> Response:
    accounts_of(request).note(
        session.person.name,
        "change the own password",
        "refused",
        why=why,
        address=client_of(request),
    )
    return _page(request, session, "", why)


def _page(request: Request, session: Session, said: str, why: str) -> Response:
    said = said or ("Your password is changed." if "changed" in request.query_params else "")
    known = {each.name: each for each in accounts_of(request).people()}
    own = known.get(session.person.name)
    has_password = own is not None and own.has_password
    return page(request, "account.html.j2", session, said=said, why=why, has_password=has_password)
