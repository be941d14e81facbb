"""Log in through the identity provider: there, and back."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NoReturn

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from console.guard import accounts_of, client_of
from console.ports import SignOn
from console.rendering import page
from console.routes.login import let_in
from console.sign_on import PATIENCE_S, Departures, recognised
from fusion.errors import IdentityRefusedError, IdentityUnavailableError, InputError
from fusion.ports import Identity

ON_THE_WAY = "fusion_on_the_way"
"""Lax, since the way back begins on another site; it opens nothing but this one log-in."""
PATH = "/login/oidc"
router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
async def depart(request: Request) -> Response:
    """Send somebody to the identity provider."""
    sign_on = _sign_on(request)
    try:
        departure = await asyncio.to_thread(sign_on.provider.depart, sign_on.back_uri)
    except (IdentityUnavailableError, IdentityRefusedError) as failed:
        return _refused(request, "", failed)
    secret = await asyncio.to_thread(_departures(request).keep, departure.kept)
    answer = RedirectResponse(departure.url, status_code=303)
    answer.set_cookie(
        ON_THE_WAY,
        secret,
        max_age=PATIENCE_S,
        path=PATH,
        httponly=True,
        samesite="lax",
        secure=request.app.state.is_https,
    )
    return answer


@router.get("/back")
async def arrive(request: Request) -> Response:
    """Open a session for whom the identity provider sends back, or say no."""
    sign_on, name = _sign_on(request), ""
    limit, address = request.app.state.failures_of_address, client_of(request)
    if limit.wait_s(address) > 0:
        return _refused(request, name, IdentityRefusedError("too many failures; wait some minutes"))
    try:
        identity = await _identity(request, sign_on)
        name = str(identity.claims.get(sign_on.name_claim, ""))
        name, grants = recognised(sign_on, identity)
        put = partial(accounts_of(request).let_in, name, identity.subject, grants)
        await asyncio.to_thread(put)
    except (IdentityUnavailableError, IdentityRefusedError, InputError) as failed:
        limit.fail(address)
        return _refused(request, name, failed)
    # Strict cookies are not sent along a redirect that began on another site: a page begins anew.
    return let_in(request, name, page(request, "arrived.html.j2", None))


async def _identity(request: Request, sign_on: SignOn) -> Identity:
    take = partial(_departures(request).take, request.cookies.get(ON_THE_WAY, ""))
    kept = await asyncio.to_thread(take)
    if kept is None:
        raise IdentityRefusedError("the log-in must begin here, at most ten minutes ago; try again")
    answer = dict(request.query_params)
    return await asyncio.to_thread(sign_on.provider.arrive, kept, sign_on.back_uri, answer)


def _sign_on(request: Request) -> SignOn:
    sign_on: SignOn | None = request.app.state.ports.sign_on
    if sign_on is None:
        _absent()
    return sign_on


def _absent() -> NoReturn:
    raise HTTPException(404, "not found")


def _departures(request: Request) -> Departures:
    return Departures(accounts_of(request).engine, request.app.state.ports.clock)


def _refused(request: Request, name: str, why: Exception) -> Response:
    accounts_of(request).note(
        name, f"log in through {PATH}", "refused", why=str(why), address=client_of(request)
    )
    code = 503 if isinstance(why, IdentityUnavailableError) else 401
    answer = page(request, "login.html.j2", None, status_code=code, why=f"Not logged in: {why}.")
    answer.delete_cookie(ON_THE_WAY, path=PATH)
    return answer
