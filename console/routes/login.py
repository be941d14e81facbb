"""Log in and out."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from console.accounts import MAX_PASSWORD, SESSION_S
from console.guard import COOKIE, Asker, accounts_of, client_of, require_same_origin
from console.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/login")
def show_login(request: Request) -> Response:
    """Return the form."""
    return page(request, "login.html.j2", None, why="")


@router.post("/login")
async def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=MAX_PASSWORD)],
) -> Response:
    """Open a session, or say no; who fails too often waits."""
    require_same_origin(request)
    accounts, state, address = accounts_of(request), request.app.state, client_of(request)
    limits = ((state.failures_of_name, name), (state.failures_of_address, address))
    wait_s = max(limit.wait_s(key) for limit, key in limits)
    if wait_s > 0:
        accounts.note(name, "log in", "refused", why="too many failures", address=address)
        why = f"Too many failed attempts. Try again in {math.ceil(wait_s / 60)} min."
        refused = page(request, "login.html.j2", None, status_code=429, why=why)
        refused.headers["Retry-After"] = str(math.ceil(wait_s))
        return refused
    for limit, key in limits:  # counted before the hash: guesses at the same time count too
        limit.fail(key)
    loop = asyncio.get_running_loop()
    person = await loop.run_in_executor(state.hashing, accounts.check_password, name, password)
    if person is None:
        accounts.note(name, "log in", "refused", why="wrong name or password", address=address)
        return page(request, "login.html.j2", None, status_code=401, why="Wrong name or password.")
    state.failures_of_name.succeed(name)
    # Who knows one password may still be guessing others from there.
    state.failures_of_address.take_back(address)
    return let_in(request, name, RedirectResponse("/", status_code=303))


def let_in(request: Request, name: str, answer: Response) -> Response:
    """Return ``answer`` with a new session of ``name``; whoever was logged in before is out."""
    accounts = accounts_of(request)
    accounts.note(name, "log in", "done", address=client_of(request))
    accounts.end_session(request.cookies.get(COOKIE, ""))
    answer.set_cookie(
        COOKIE,
        accounts.open_session(name),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.app.state.is_https,
    )
    return answer


@router.post("/logout")
def log_out(request: Request, session: Asker) -> Response:
    """End the session."""
    accounts_of(request).end_session(request.cookies.get(COOKIE, ""))
    accounts_of(request).note(session.person.name, "log out", "done", address=client_of(request))
    answer = Response(status_code=204, headers={"HX-Redirect": "/login"})
    answer.delete_cookie(COOKIE)
    return answer
