"""What stands before every request: who asks, whether they may, and what browsers may do.

Whatever changes something needs proof that our own page asked: the session's CSRF token, and an
``Origin`` that is this host. Tokens of machines need neither: no browser sends them by itself.
Every refusal is written into the journal of access.
"""

from __future__ import annotations

import secrets
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, status
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from console.accounts import Accounts, Session
from console.rights import Person, Role

COOKIE = "fusion_session"
MAX_BODY_BYTES = 64 * 1024
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE = {"GET", "HEAD", "OPTIONS"}


class NotLoggedInError(Exception):
    """Nobody is logged in; the page sends to the log-in, the API answers 401."""


def accounts_of(request: Request) -> Accounts:
    """Return the accounts of the app."""
    return request.app.state.accounts


def client_of(request: Request) -> str:
    """Return the network address that asks."""
    return "" if request.client is None else request.client.host


def current_session(request: Request) -> Session:
    """Return who asks.

    Raises:
        NotLoggedInError: Nobody that is known here.
        HTTPException: 403, the request does not come from our own page.
    """
    accounts = accounts_of(request)
    bearer = request.headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        machine = accounts.tokens.machine(bearer[7:].strip())
        if machine is None:
            refuse(
                request,
                None,
                "the token is not known, or has ended",
                code=status.HTTP_401_UNAUTHORIZED,
            )
        return Session(machine, csrf="")
    session = accounts.session(request.cookies.get(COOKIE, ""))
    if session is None:
        if COOKIE in request.cookies:
            _note(request, None, "the session is forged, ended or expired")
        raise NotLoggedInError
    if request.method not in _SAFE:
        require_same_origin(request, session.person)
        given = request.headers.get("x-csrf-token", "")
        if not secrets.compare_digest(given.encode(), session.csrf.encode()):
            refuse(request, session.person, "the CSRF token is absent or wrong")
    return session


def require_same_origin(request: Request, person: Person | None = None) -> None:
    """Refuse what another site's page sends.

    Raises:
        HTTPException: 403.
    """
    origin = request.headers.get("origin")
    is_own = (
        urlsplit(origin).netloc == request.headers.get("host")
        if origin is not None
        else request.headers.get("sec-fetch-site") in {"same-origin", "none"}
    )
    if not is_own:
        refuse(request, person, "the request must come from the console's own page")


def require(request: Request, person: Person, role: Role, address: str) -> None:
    """Refuse a person who has no such role at ``address``.

    What they may not even look at does not exist for them: 404.

    Raises:
        HTTPException: 403 or 404.
    """
    if not person.may(Role.VIEWER, address):
        refuse(request, person, f"no role at {address}", code=status.HTTP_404_NOT_FOUND)
    if not person.may(role, address):
        refuse(request, person, f"needs the role {role.name.lower()} at {address}")


def require_admin(request: Request, person: Person) -> None:
    """Refuse everybody but administrators of everything.

    Raises:
        HTTPException: 403.
    """
    if not person.is_admin:
        refuse(request, person, "needs the role admin everywhere")


def refuse(
    request: Request, person: Person | None, why: str, *, code: int = status.HTTP_403_FORBIDDEN
) -> NoReturn:
    """Write the refusal into the journal of access, and answer with it.

    Raises:
        HTTPException: Always.
    """
    _note(request, person, why)
    said = "not found" if code == status.HTTP_404_NOT_FOUND else why
    raise HTTPException(code, said)


def _note(request: Request, person: Person | None, why: str) -> None:
    accounts_of(request).note(
        "" if person is None else person.name,
        f"{request.method} {request.url.path}",
        "refused",
        why=why,
        address=client_of(request),
    )


class Harden:
    """Puts the headers on every answer that keep browsers from doing harm; bounds every request.

    Plain ASGI: a stream of events must not pass through anything that buffers it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse a body that is too large or of unknown length."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_hardened(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        asked = Headers(scope=scope)
        length = asked.get("content-length", "0")
        is_bounded = length.isdigit() and int(length) <= MAX_BODY_BYTES
        if is_bounded and "transfer-encoding" not in asked:
            await self._app(scope, receive, send_hardened)
            return
        too_large = PlainTextResponse(
            f"a request may have at most {MAX_BODY_BYTES} bytes, with a Content-Length",
            status_code=status.HTTP_413_CONTENT_TOO_LARGE,
        )
        await too_large(scope, receive, send_hardened)


Asker = Annotated[Session, Depends(current_session)]
